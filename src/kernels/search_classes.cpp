#include "search_classes.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "search_loops.hpp"
#include "statistics.hpp"

namespace fewbits {

namespace {

// Bins of neighbouring rows, between which classes are cut; fewer of fewer rows.
constexpr size_t kBins = 32, kFewBins = 16, kManyRows = 1024;
// A tensor of fewer elements does not pay for two tables, one of fewer rows for telling them apart.
constexpr size_t kLeastElements = size_t{1} << 14, kLeastRows = 16;
// Means are told apart in steps of 1 / kSteps.
constexpr size_t kSteps = 64;
// Neighbouring values are counted together until they are one of so many parts of all: scales differ in the large.
constexpr size_t kColumns = 48;
// A table of 16 rows takes about so many bits. What a class must save beyond it: it breaks up blocks and takes
// time to find.
constexpr float kTableBits = 350, kClassBits = 512;

// Rows in the order of (kind, mean), by counting.
std::vector<uint32_t> ordered(const std::vector<float>& means, const std::vector<uint8_t>& kinds) {
  constexpr size_t places = 256 * kSteps;
  size_t most = 0;
  for (const uint8_t kind : kinds) most = std::max<size_t>(most, kind);
  std::vector<uint32_t> start((most + 1) * places + 1, 0), order(means.size());
  const auto place = [&](size_t row) {
    const auto step = static_cast<size_t>(means[row] * kSteps);
    return (kinds.empty() ? 0 : kinds[row]) * places + std::min(step, places - 1);
  };
  for (size_t row = 0; row < means.size(); ++row) ++start[place(row) + 1];
  for (size_t i = 1; i < start.size(); ++i) start[i] += start[i - 1];
  for (size_t row = 0; row < means.size(); ++row)
    order[start[place(row)]++] = static_cast<uint32_t>(row);
  return order;
}

// Of each column the occurrences in the bins before the first, the second, ...: (bins + 1) x columns.
std::vector<float> columns_below(const std::vector<uint64_t>& counts, size_t bins, size_t values,
                                 size_t& columns) {
  std::vector<uint64_t> whole(values, 0);
  uint64_t total = 0;
  for (size_t b = 0; b < bins; ++b)
    for (size_t v = 0; v < values; ++v) whole[v] += counts[b * values + v];
  for (const uint64_t n : whole) total += n;
  std::vector<size_t> ends;  // of the columns
  uint64_t held = 0;
  for (size_t v = 0; v < values; ++v) {
    if (held && (held + whole[v]) * kColumns > total) {
      ends.push_back(v);
      held = 0;
    }
    held += whole[v];
  }
  ends.push_back(values);
  columns = (ends.size() + kLanes - 1) / kLanes * kLanes;
  std::vector<float> below((bins + 1) * columns, 0);
  for (size_t b = 0; b < bins; ++b) {
    float* const next = below.data() + (b + 1) * columns;
    const uint64_t* const own = counts.data() + b * values;
    for (size_t c = 0, v = 0; c < ends.size(); ++c) {
      uint64_t sum = 0;
      for (; v < ends[c]; ++v) sum += own[v];
      next[c] = next[c - columns] + static_cast<float>(sum);
    }
  }
  return below;
}

}  // namespace

RowBins find_bins(const Plan& plan, const uint8_t* data, size_t elements, size_t row_elements, Body body) {
  if (row_elements == 0) return {};
  const size_t rows = elements / row_elements + (elements % row_elements != 0);
  if (elements < kLeastElements || rows < kLeastRows) return {};
  Glance glance = glance_at_rows(plan, 0, data, elements, row_elements, body);
  std::vector<uint8_t> kinds;
  if (const int below = 8 * plan.planes[0].offset) {
    // Whole bytes only: planes are bytes, and a plane of zeros costs nothing.
    kinds = row_zero_bits(plan.element_bytes, data, elements, row_elements);
    for (uint8_t& kind : kinds) kind = static_cast<uint8_t>(std::min<int>(kind, below) / 8);
  }
  const std::vector<uint32_t> order = ordered(glance.means, kinds);
  const auto kind_at = [&](size_t i) { return kinds.empty() ? uint8_t{0} : kinds[order[i]]; };
  RowBins result{row_elements, std::vector<uint8_t>(rows), {}, std::move(glance)};
  const size_t most = rows < kManyRows ? kFewBins : kBins;
  for (size_t first = 0, last; first < rows; first = last) {
    for (last = first + 1; last < rows && kind_at(last) == kind_at(first);) ++last;
    const size_t some = last - first;
    const size_t bins = std::max<size_t>(1, std::min(some, most * some / rows));
    for (size_t i = 0; i < some; ++i)
      result.bin_of_row[order[first + i]] = static_cast<uint8_t>(result.bins() + i * bins / some);
    result.kind_of.insert(result.kind_of.end(), bins, kind_at(first));
  }
  return result;
}

std::vector<size_t> cut_bins(const RowBins& bins, const std::vector<uint64_t>& counts, size_t values,
                             size_t most) {
  const size_t n = bins.bins();
  size_t columns;
  const std::vector<float> below = columns_below(counts, n, values, columns);
  constexpr float infinite = std::numeric_limits<float>::infinity();
  std::vector<float> cost((n + 1) * (n + 1), infinite), totals(cost.size());
  quick_loops().bin_costs(below.data(), n, columns, cost.data(), totals.data());
  for (size_t first = 0; first < n; ++first)
    for (size_t last = first + 1; last <= n; ++last) {
      const size_t at = first * (n + 1) + last;
      // Kinds ascend, so the first bin has the fewest zero bytes, which is what all of them share.
      cost[at] += kTableBits + kClassBits - 8 * totals[at] * static_cast<float>(bins.kind_of[first]);
    }
  // reached[c][last]: the first `last` bins in c + 1 classes; chosen: where the last of these begins.
  std::vector<std::vector<float>> reached{{cost.begin(), cost.begin() + static_cast<ptrdiff_t>(n + 1)}};
  std::vector<std::vector<size_t>> chosen{std::vector<size_t>(n + 1, 0)};
  size_t best = 0;
  float least = reached[0][n];
  for (size_t c = 1; c < std::min(most, n); ++c) {
    reached.emplace_back(n + 1, infinite);
    chosen.emplace_back(n + 1, 0);
    for (size_t last = c + 1; last <= n; ++last)
      for (size_t first = c; first < last; ++first) {
        const float through = reached[c - 1][first] + cost[first * (n + 1) + last];
        if (through < reached[c][last]) {
          reached[c][last] = through;
          chosen[c][last] = first;
        }
      }
    const auto side = static_cast<float>(bins.bin_of_row.size() * static_cast<size_t>(std::bit_width(c)));
    if (reached[c][n] + side < least) {
      least = reached[c][n] + side;
      best = c;
    }
  }
  std::vector<size_t> firsts(best + 1);
  for (size_t c = best + 1, at = n; c-- > 0;) firsts[c] = at = chosen[c][at];
  return firsts;
}

}  // namespace fewbits
