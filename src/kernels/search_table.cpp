#include "search_table.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "bits.hpp"
#include "search.hpp"

namespace fewbits {

namespace {

// What the vector program takes in less time than the coarse one.
constexpr size_t kQuickCandidates = 1024;

Candidates candidates_of(const Histogram& histogram) {
  Candidates result;
  uint32_t past = 0;
  double below = 0;
  for (size_t i = 0; i < histogram.values.size(); ++i) {
    result.first.push_back(histogram.values[i] << histogram.dropped);
    result.past.push_back(past);
    result.below.push_back(below);
    below += static_cast<double>(histogram.counts[i]);
    past = (histogram.values[i] + 1) << histogram.dropped;
  }
  result.first.push_back(1u << histogram.width);
  result.past.push_back(past);
  result.below.push_back(below);
  return result;
}

// A row for each of some boundaries, and how often it occurs.
struct Split {
  std::vector<uint32_t> starts, lengths;
  std::vector<uint64_t> occurrences;

  void add(uint32_t start, int length, uint64_t count) {
    starts.push_back(start);
    lengths.push_back(static_cast<uint32_t>(length));
    occurrences.push_back(count);
  }
};

Split optimal_split(const Histogram& histogram, const TableBounds& bounds, uint32_t counts) {
  const Candidates candidates = candidates_of(histogram);
  const auto total = static_cast<double>(histogram.total);
  const RowCost cost{total, total / counts, bounds.verbatim_bits, bounds.max_offset_length};
  const auto search = candidates.last() <= kQuickCandidates ? quick_search : coarse_search;
  const Boundaries boundaries = search(candidates, cost, std::min<size_t>(bounds.rows, counts));
  Split split;
  for (size_t row = 0; row + 1 < boundaries.size(); ++row) {
    const uint32_t a = boundaries[row], b = boundaries[row + 1];
    split.add(candidates.first[a], offset_length(candidates.values(a, b)),
              std::accumulate(histogram.counts.begin() + a, histogram.counts.begin() + b, uint64_t{0}));
  }
  return split;
}

// Listing 1 of the paper; at depth 2 it takes minutes for 16-bit values. Where low bits were dropped, it works on
// the values without them.
Split paper_split(const Histogram& histogram, const TableBounds& bounds) {
  const int dropped = histogram.dropped;
  std::vector<double> dense(size_t{1} << (histogram.width - dropped), 0.0);
  for (size_t i = 0; i < histogram.values.size(); ++i)
    dense[histogram.values[i]] = static_cast<double>(histogram.counts[i]);
  if (bounds.max_offset_length < dropped) return {};
  std::vector<uint32_t> starts =
      paper_search(dense, std::min(bounds.rows, dense.size()), bounds.max_offset_length - dropped, 0.99,
                   histogram.width <= 8 ? 2 : 1);
  Split split;
  starts.push_back(static_cast<uint32_t>(dense.size()));
  for (size_t row = 0; row + 1 < starts.size(); ++row) {
    uint64_t count = 0;
    for (size_t i = 0; i < histogram.values.size(); ++i)
      if (starts[row] <= histogram.values[i] && histogram.values[i] < starts[row + 1])
        count += histogram.counts[i];
    split.add(starts[row] << dropped, offset_length((starts[row + 1] - starts[row]) << dropped), count);
    if (split.lengths.back() > static_cast<uint32_t>(bounds.max_offset_length)) return {};
  }
  return split;
}

size_t table_bits(const RangeTable& table, const auto& put) {
  const size_t rows = table.rows();
  const auto told = table.counts.begin() + static_cast<ptrdiff_t>(rows - 1);
  bool dense = true;
  for (size_t r = 0; r + 1 < rows; ++r)
    dense &= std::bit_width(table.starts[r + 1] - table.starts[r] - 1) ==
             static_cast<int>(table.offset_lengths[r]);
  const int length_field = std::bit_width(
      *std::max_element(table.offset_lengths.begin(), table.offset_lengths.end()));
  const int count_field =
      rows > 1 ? std::bit_width(*std::max_element(table.counts.begin(), told)) : 0;
  size_t bits = 0;
  const auto field = [&](uint32_t value, int count) {
    put(value, count);
    bits += static_cast<size_t>(count);
  };
  field(static_cast<uint32_t>(table.count_bits - 1), 4);
  field(static_cast<uint32_t>(rows - 1), 12);
  field((1u << table.count_bits) - table.cumulative.back(), 1);
  field(dense, 1);
  field(static_cast<uint32_t>(length_field), 3);
  field(static_cast<uint32_t>(count_field), 5);
  field(table.starts[0], table.width);
  for (size_t r = 0; r < rows; ++r) {
    const auto length = static_cast<int>(table.offset_lengths[r]);
    field(table.offset_lengths[r], length_field);
    if (r + 1 == rows) break;
    const uint32_t gap = table.starts[r + 1] - table.starts[r] - 1;
    const bool tight = std::bit_width(gap) == length;
    if (!dense) field(tight, 1);
    // Of a gap as wide as its row, the top bit is known.
    const int wide = tight ? std::max(length - 1, 0) : table.width;
    field(gap & ((1u << wide) - 1), wide);
    field(table.counts[r], count_field);
  }
  return bits;
}

}  // namespace

Histogram Histogram::of(int width, int dropped, const uint64_t* counts, size_t size) {
  Histogram result{width, dropped, {}, {}, 0, 0};
  for (size_t i = 0; i < size; ++i)
    if (counts[i]) {
      result.values.push_back(static_cast<uint32_t>(i));
      result.counts.push_back(counts[i]);
      result.total += counts[i];
      result.most = std::max(result.most, counts[i]);
    }
  return result;
}

Histogram Histogram::of_sorted(int width, const uint16_t* sorted, size_t n) {
  Histogram result{width, 0, {}, {}, n, 0};
  for (size_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && sorted[i + run] == sorted[i];) ++run;
    result.values.push_back(sorted[i]);
    result.counts.push_back(run);
    result.most = std::max<uint64_t>(result.most, run);
  }
  return result;
}

double Histogram::entropy() const {
  if (total == 0) return 0;
  double sum = 0;
  for (const uint64_t count : counts) {
    const auto n = static_cast<double>(count);
    sum += n * fast_log2(n);
  }
  const auto all = static_cast<double>(total);
  return std::max(0.0, fast_log2(all) - sum / all) + dropped;
}

std::vector<uint32_t> exact_counts(const std::vector<uint64_t>& occurrences, uint32_t total) {
  const size_t rows = occurrences.size();
  const auto population = std::accumulate(occurrences.begin(), occurrences.end(), uint64_t{0});
  std::vector<uint32_t> counts(rows, 0);
  if (population == 0) {
    counts[0] = total;
    return counts;
  }
  std::vector<double> gain(rows, -1), loss(rows, kInfinity);
  int64_t missing = total;
  const auto change = [&](size_t r, uint32_t count) {
    const auto n = static_cast<double>(occurrences[r]);
    const double c = count;
    missing += static_cast<int64_t>(counts[r]) - count;
    counts[r] = count;
    gain[r] = n * std::log2((c + 1) / c);
    loss[r] = count > 1 ? n * std::log2(c / (c - 1)) : kInfinity;
  };
  for (size_t r = 0; r < rows; ++r)
    if (occurrences[r])
      change(r, std::max<uint32_t>(1, static_cast<uint32_t>(static_cast<unsigned __int128>(
                                          occurrences[r]) * total / population)));
  const auto best_gain = [&] {
    return static_cast<size_t>(std::max_element(gain.begin(), gain.end()) - gain.begin());
  };
  const auto least_loss = [&] {
    return static_cast<size_t>(std::min_element(loss.begin(), loss.end()) - loss.begin());
  };
  while (missing > 0) {
    const size_t r = best_gain();
    change(r, counts[r] + 1);
  }
  while (missing < 0) {
    const size_t r = least_loss();
    if (loss[r] == kInfinity) throw std::invalid_argument("counts: more rows than counts");
    change(r, counts[r] - 1);
  }
  for (;;) {
    const size_t to = best_gain(), from = least_loss();
    if (to == from || !(gain[to] > loss[from] * (1 + 1e-12))) return counts;
    change(from, counts[from] - 1);
    change(to, counts[to] + 1);
  }
}

std::vector<uint32_t> paper_counts(const std::vector<uint64_t>& occurrences, uint32_t total) {
  const auto population = std::accumulate(occurrences.begin(), occurrences.end(), uint64_t{0});
  if (population == 0) return exact_counts(occurrences, total);
  std::vector<uint32_t> counts;
  uint64_t seen = 0;
  uint32_t high = 0;
  for (const uint64_t n : occurrences) {
    seen += n;
    const auto next =
        static_cast<uint32_t>(static_cast<unsigned __int128>(seen) * total / population);
    counts.push_back(next - high);
    high = next;
  }
  for (size_t r = 0; r < counts.size(); ++r)
    if (counts[r] == 0 && occurrences[r]) {
      --*std::max_element(counts.begin(), counts.end());
      counts[r] = 1;
    }
  return counts;
}

PricedTable search_table(const Histogram& histogram, const TableBounds& bounds) {
  if (histogram.values.empty()) return {};
  const uint32_t total = (1u << bounds.count_bits) - bounds.paper;
  Split split = bounds.paper ? paper_split(histogram, bounds) : optimal_split(histogram, bounds, total);
  if (split.starts.empty()) return {};
  std::vector<uint32_t> counts =
      bounds.paper ? paper_counts(split.occurrences, total) : exact_counts(split.occurrences, total);
  // Tables hold a flag that cannot be moved: so on the heap.
  std::shared_ptr<const RangeTable> table(
      new RangeTable(histogram.width, bounds.count_bits, std::move(split.starts),
                     std::move(split.lengths), std::move(counts)));
  const double bits = coded_bits(*table, histogram, bounds.verbatim_bits);
  return {std::move(table), bits};
}

double coded_bits(const RangeTable& table, const Histogram& histogram, int verbatim_bits) {
  double bits = 0;
  size_t row = 0;
  for (size_t i = 0; i < histogram.values.size();) {
    const uint32_t first = histogram.values[i] << histogram.dropped;
    if (first < table.starts[0]) return kInfinity;
    while (row + 1 < table.rows() && table.starts[row + 1] <= first) ++row;
    const uint64_t next = row + 1 < table.rows() ? table.starts[row + 1] : uint64_t{1} << table.width;
    const uint64_t reach = std::min(next, table.starts[row] + (uint64_t{1} << table.offset_lengths[row]));
    uint64_t occurrences = 0;
    for (; i < histogram.values.size() && (histogram.values[i] << histogram.dropped) < next; ++i) {
      if (((uint64_t{histogram.values[i]} + 1) << histogram.dropped) > reach) return kInfinity;
      occurrences += histogram.counts[i];
    }
    if (table.counts[row] == 0) return kInfinity;
    bits += static_cast<double>(occurrences) *
            (table.count_bits - fast_log2(table.counts[row]) +
             std::max(static_cast<int>(table.offset_lengths[row]), verbatim_bits));
  }
  return bits + 8.0 * static_cast<double>((table_bits(table, [](uint32_t, int) {}) + 7) / 8);
}

std::vector<uint8_t> write_table(const RangeTable& table) {
  std::vector<uint8_t> out;
  BitWriterLsb writer(out);
  table_bits(table, [&](uint32_t value, int count) { writer.put(value, count); });
  writer.flush();
  return out;
}

}  // namespace fewbits
