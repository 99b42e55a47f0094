#include "statistics.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "elements.hpp"
#include "search_loops.hpp"
#include "tally.hpp"

namespace fewbits {

namespace {

// So many elements are remapped and cut at a time: what stays in a first-level cache.
constexpr size_t kStep = size_t{1} << 12;
constexpr size_t kFewElements = size_t{1} << 19;
// Of the next row so many bytes are fetched while one is counted.
constexpr size_t kFetchedBytes = 1024;

// Calls visit(values, count) for elements first .. last - 1 of a plane, some at a time.
template <typename T, typename Visit>
void each_piece(const Plan& plan, const Plane& plane, const uint8_t* data, size_t first, size_t last,
                const Visit& visit) {
  const PlaneLoops<T> loops = plane_loops<T>();
  for (size_t at = first; at < last;) {
    const size_t count = std::min(kStep, last - at);
    std::vector<T>& some = scratch<T, Use::elements>(count);
    std::memcpy(some.data(), data + at * sizeof(T), count * sizeof(T));
    loops.remap_forward(plan.remap, some.data(), count);
    const auto show = [&](const auto& values) { visit(values.data(), values.size()); };
    plane.bytes == 2 ? show(cut<uint16_t>(plane, some)) : show(cut<uint8_t>(plane, some));
    at += count;
  }
}

// Calls visit(row, values, count) for the rows' values of a plane, some at a time.
template <typename Visit>
void each_row(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
              size_t row_elements, const Visit& visit) {
  with_element(plan.element_bytes, [&](auto zero) {
    for (size_t row = 0, at = 0; at < elements; ++row) {
      const size_t end = std::min(at + row_elements, elements);
      each_piece<decltype(zero)>(plan, plan.planes.at(index), data, at, end,
                                 [&](const auto* values, size_t n) { visit(row, values, n); });
      at = end;
    }
  });
}

// Counts values, less their low bits, in tables that stay in a first-level cache. Neighbours have tables of their
// own, so that a run of equal values does not wait on its own last increment.
class ShortTally {
 public:
  ShortTally(size_t values, int dropped) : values_(values), dropped_(dropped), tables_(2 * values) {}

  template <typename Value>
  void add(const Value* values, size_t n) {
    if (held_ + n > kMost) flush();  // pieces are shorter than that
    held_ += n;
    uint32_t *const even = tables_.data(), *const odd = even + values_;
    const int dropped = dropped_;  // a member might be one of the counts, for all that the compiler knows
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
      ++even[values[i] >> dropped];
      ++odd[values[i + 1] >> dropped];
      ++even[values[i + 2] >> dropped];
      ++odd[values[i + 3] >> dropped];
    }
    for (; i < n; ++i) ++even[values[i] >> dropped];
  }

  // Adds what was counted to `counts`, and begins anew.
  void flush_to(uint64_t* counts) {
    counts_ = counts;
    flush();
  }
  void begin(uint64_t* counts) { counts_ = counts; }

 private:
  static constexpr size_t kMost = size_t{1} << 31;  // what a 32-bit count is sure to hold
  size_t values_, held_ = 0;
  int dropped_;
  uint64_t* counts_ = nullptr;
  std::vector<uint32_t> tables_;

  void flush() {
    const uint32_t* const tables = tables_.data();
    for (size_t v = 0; v < values_; ++v)
      counts_[v] += uint64_t{tables[v]} + tables[values_ + v];
    std::fill(tables_.begin(), tables_.end(), 0);
    held_ = 0;
  }
};

size_t rows_of(size_t elements, size_t row_elements) {
  if (row_elements < 1) throw std::invalid_argument("statistics: rows of nothing");
  return elements / row_elements + (elements % row_elements != 0);
}

void check_bins(const std::vector<uint8_t>& bin_of_row, size_t bins, size_t elements,
                size_t row_elements) {
  if (bin_of_row.size() != rows_of(elements, row_elements) ||
      std::any_of(bin_of_row.begin(), bin_of_row.end(), [&](uint8_t b) { return b >= bins; }))
    throw std::invalid_argument("statistics: every row needs a bin");
}

// Every `step`th row, bin by bin.
std::vector<size_t> rows_by_bin(const std::vector<uint8_t>& bin_of_row, size_t bins, size_t step) {
  std::vector<size_t> start(bins + 1, 0), rows;
  for (size_t row = 0; row < bin_of_row.size(); row += step) ++start[bin_of_row[row] + size_t{1}];
  for (size_t b = 0; b < bins; ++b) start[b + 1] += start[b];
  rows.resize(start[bins]);
  for (size_t row = 0; row < bin_of_row.size(); row += step) rows[start[bin_of_row[row]]++] = row;
  return rows;
}

// Histograms of 16-bit values, all bits.
std::vector<uint64_t> wide_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                      size_t elements, size_t row_elements,
                                      const std::vector<uint8_t>& bin_of_row, size_t bins) {
  constexpr size_t space = size_t{1} << 16;
  if (elements < kFewElements) {  // clearing large tallies would take longer
    std::vector<uint64_t> counts(bins * space, 0);
    each_row(plan, index, data, elements, row_elements, [&](size_t row, const auto* v, size_t n) {
      uint64_t* const own = counts.data() + bin_of_row[row] * space;
      for (size_t i = 0; i < n; ++i) ++own[v[i]];
    });
    return counts;
  }
  std::vector<Tally<uint16_t>> tallies(bins);
  each_row(plan, index, data, elements, row_elements, [&](size_t row, const auto* v, size_t n) {
    tallies[bin_of_row[row]].add(reinterpret_cast<const uint8_t*>(v), n);
  });
  std::vector<uint64_t> counts;
  for (Tally<uint16_t>& tally : tallies) {
    const std::vector<uint64_t>& own = tally.counts();
    counts.insert(counts.end(), own.begin(), own.end());
  }
  return counts;
}

}  // namespace

std::vector<uint64_t> plane_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                       size_t elements, size_t row_elements,
                                       const std::vector<uint8_t>& bin_of_row, size_t bins) {
  if (plan.planes.at(index).bytes != 2)
    return coarse_histograms(plan, index, data, elements, row_elements, bin_of_row, bins, 0, 1);
  check_bins(bin_of_row, bins, elements, row_elements);
  return wide_histograms(plan, index, data, elements, row_elements, bin_of_row, bins);
}

std::vector<uint64_t> coarse_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                        size_t elements, size_t row_elements,
                                        const std::vector<uint8_t>& bin_of_row, size_t bins,
                                        int dropped, size_t step, size_t most) {
  check_bins(bin_of_row, bins, elements, row_elements);
  const Plane& plane = plan.planes.at(index);
  const int width = plane.bytes == 0 ? 4 : 8 * plane.bytes;
  if (dropped < 0 || dropped > width || step < 1)
    throw std::invalid_argument("statistics: too few bits or rows");
  const size_t values = size_t{1} << (width - dropped);
  std::vector<uint64_t> counts(bins * values, 0);
  ShortTally tally(values, dropped);
  const bool as_they_are = plan.remap == Remap::identity && plan.element_bytes == 1 && plane.bytes == 1;
  const size_t row_bytes = row_elements * static_cast<size_t>(plan.element_bytes);
  const std::vector<size_t> rows = rows_by_bin(bin_of_row, bins, step);
  size_t bin = 0;
  tally.begin(counts.data());
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t row = rows[i];
    if (bin_of_row[row] != bin) {
      tally.flush_to(counts.data() + bin * values);
      bin = bin_of_row[row];
      tally.begin(counts.data() + bin * values);
    }
    if (i + 1 < rows.size() && rows[i + 1] != row + 1)  // where no processor expects it
      for (size_t at = 0; at < std::min(row_bytes, kFetchedBytes); at += 64)
        __builtin_prefetch(data + rows[i + 1] * row_bytes + at);
    const size_t first = row * row_elements;
    const size_t last = std::min(first + std::min(row_elements, most), elements);
    if (as_they_are) {
      tally.add(data + first, last - first);
      continue;
    }
    with_element(plan.element_bytes, [&](auto zero) {
      each_piece<decltype(zero)>(plan, plane, data, first, last,
                                 [&](const auto* v, size_t n) { tally.add(v, n); });
    });
  }
  tally.flush_to(counts.data() + bin * values);
  return counts;
}

Glance glance_at_rows(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
                      size_t row_elements, Body body) {
  const size_t rows = rows_of(elements, row_elements);
  Glance result{std::vector<float>(rows), std::vector<uint16_t>(rows, body.low), {}};
  std::vector<uint64_t> sums(rows, 0);
  const bool nibbles = plan.planes.at(index).bytes == 0;
  const QuickLoops loops = quick_loops();
  each_row(plan, index, data, elements, row_elements, [&](size_t row, const auto* v, size_t n) {
    using Value = std::decay_t<decltype(*v)>;
    if (nibbles) {
      uint32_t sum = 0;
      for (size_t i = 0; i < n; ++i) sum += std::min<uint32_t>(v[i], 16u - v[i]);
      sums[row] += sum;
      return;
    }
    const auto low = static_cast<Value>(body.low), span = static_cast<Value>(body.high - body.low);
    Value furthest[kStep / kGlance], most = 0;
    if constexpr (sizeof(Value) == 1) sums[row] += loops.glance8(v, n, low, furthest);
    else sums[row] += loops.glance16(v, n, low, furthest);
    for (size_t at = 0; at < n; at += kGlance) {
      if (furthest[at / kGlance] <= span) {
        most = std::max(most, furthest[at / kGlance]);
        continue;
      }
      for (size_t i = at; i < std::min(at + kGlance, n); ++i) {
        const auto distance = static_cast<Value>(v[i] - low);
        if (distance <= span) most = std::max(most, distance);
        else result.rare.push_back({static_cast<uint32_t>(row), v[i]});
      }
    }
    result.highest[row] = std::max(result.highest[row], static_cast<uint16_t>(low + most));
  });
  for (size_t row = 0; row < rows; ++row) {
    const size_t values = (std::min((row + 1) * row_elements, elements) - row * row_elements) *
                          (nibbles ? 2 : 1);
    result.means[row] = static_cast<float>(static_cast<double>(sums[row]) / static_cast<double>(values));
  }
  return result;
}

std::vector<uint8_t> row_zero_bits(int element_bytes, const uint8_t* data, size_t elements,
                                   size_t row_elements) {
  std::vector<uint8_t> bits(rows_of(elements, row_elements));
  with_element(element_bytes, [&](auto zero) {
    using T = decltype(zero);
    for (size_t row = 0; row < bits.size(); ++row) {
      const size_t first = row * row_elements, last = std::min(first + row_elements, elements);
      T any = 0;
      for (size_t i = first; i < last; ++i) {
        T element;
        std::memcpy(&element, data + i * sizeof(T), sizeof(T));
        any |= element;
      }
      bits[row] = static_cast<uint8_t>(std::countr_zero(any));
    }
  });
  return bits;
}

}  // namespace fewbits
