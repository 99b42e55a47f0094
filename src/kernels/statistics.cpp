#include "statistics.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "elements.hpp"
#include "tally.hpp"

namespace fewbits {

namespace {

// So many elements are remapped and cut at a time: what stays in a first-level cache.
constexpr size_t kStep = size_t{1} << 12;
constexpr size_t kFewElements = size_t{1} << 19;

// Calls visit(row, values, count) for every `step`th row's values of a plane, some at a time.
template <typename Visit>
void each_row(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
              size_t row_elements, size_t step, const Visit& visit) {
  const Plane& plane = plan.planes.at(index);
  with_element(plan.element_bytes, [&](auto zero) {
    using T = decltype(zero);
    const PlaneLoops<T> loops = plane_loops<T>();
    for (size_t row = 0, at = 0; at < elements; row += step, at = row * row_elements) {
      for (const size_t end = std::min(at + row_elements, elements); at < end;) {
        const size_t count = std::min(kStep, end - at);
        std::vector<T>& some = scratch<T, Use::elements>(count);
        std::memcpy(some.data(), data + at * sizeof(T), count * sizeof(T));
        loops.remap_forward(plan.remap, some.data(), count);
        const auto show = [&](const auto& values) { visit(row, values.data(), values.size()); };
        plane.bytes == 2 ? show(cut<uint16_t>(plane, some)) : show(cut<uint8_t>(plane, some));
        at += count;
      }
    }
  });
}

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

// Histograms of all bits of a plane's values.
template <typename Value>
std::vector<uint64_t> whole_values(const Plan& plan, size_t index, const uint8_t* data,
                                   size_t elements, size_t row_elements,
                                   const std::vector<uint8_t>& bin_of_row, size_t bins) {
  const Plane& plane = plan.planes[index];
  const size_t space = plane.bytes ? size_t{1} << (8 * sizeof(Value)) : 16;
  if (sizeof(Value) == 2 && elements < kFewElements) {  // clearing large tallies would take longer
    std::vector<uint64_t> counts(bins * space, 0);
    each_row(plan, index, data, elements, row_elements, 1, [&](size_t row, const auto* v, size_t n) {
      uint64_t* const own = counts.data() + bin_of_row[row] * space;
      for (size_t i = 0; i < n; ++i) ++own[v[i]];
    });
    return counts;
  }
  std::vector<Tally<Value>> tallies(bins);
  if (plan.remap == Remap::identity && plane.bytes == plan.element_bytes) {  // as they are
    for (size_t row = 0, at = 0; at < elements; ++row) {
      const size_t count = std::min(row_elements, elements - at);
      tallies[bin_of_row[row]].add(data + at * sizeof(Value), count);
      at += count;
    }
  } else {
    each_row(plan, index, data, elements, row_elements, 1, [&](size_t row, const auto* v, size_t n) {
      tallies[bin_of_row[row]].add(reinterpret_cast<const uint8_t*>(v), n);
    });
  }
  std::vector<uint64_t> counts;
  for (Tally<Value>& tally : tallies) {
    const std::vector<uint64_t>& own = tally.counts();
    counts.insert(counts.end(), own.begin(), own.begin() + static_cast<ptrdiff_t>(space));
  }
  return counts;
}

}  // namespace

std::vector<uint64_t> plane_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                       size_t elements, size_t row_elements,
                                       const std::vector<uint8_t>& bin_of_row, size_t bins) {
  check_bins(bin_of_row, bins, elements, row_elements);
  const auto chosen =
      plan.planes.at(index).bytes == 2 ? whole_values<uint16_t> : whole_values<uint8_t>;
  return chosen(plan, index, data, elements, row_elements, bin_of_row, bins);
}

std::vector<uint64_t> coarse_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                        size_t elements, size_t row_elements,
                                        const std::vector<uint8_t>& bin_of_row, size_t bins,
                                        int dropped, size_t step) {
  check_bins(bin_of_row, bins, elements, row_elements);
  const int width = plan.planes.at(index).bytes == 0 ? 4 : 8 * plan.planes[index].bytes;
  if (dropped < 0 || dropped > width || step < 1)
    throw std::invalid_argument("statistics: too few bits or rows");
  const size_t values = size_t{1} << (width - dropped);
  std::vector<uint64_t> counts(bins * values, 0);
  each_row(plan, index, data, elements, row_elements, step,
           [&](size_t row, const auto* v, size_t n) {
             uint64_t* const own = counts.data() + bin_of_row[row] * values;
             for (size_t i = 0; i < n; ++i) ++own[v[i] >> dropped];
           });
  return counts;
}

std::vector<float> row_means(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
                             size_t row_elements) {
  std::vector<uint64_t> sums(rows_of(elements, row_elements), 0);
  std::vector<uint64_t> counts(sums.size(), 0);
  const bool nibbles = plan.planes.at(index).bytes == 0;
  each_row(plan, index, data, elements, row_elements, 1, [&](size_t row, const auto* v, size_t n) {
    constexpr int below = 8 * (sizeof(*v) - 1);
    uint32_t sum = 0;
    if (nibbles)
      for (size_t i = 0; i < n; ++i) sum += std::min<uint32_t>(v[i], 16u - v[i]);
    else
      for (size_t i = 0; i < n; ++i) sum += v[i] >> below;
    sums[row] += sum;
    counts[row] += n;
  });
  std::vector<float> means(sums.size());
  for (size_t row = 0; row < sums.size(); ++row)
    means[row] = static_cast<float>(static_cast<double>(sums[row]) /
                                    static_cast<double>(counts[row]));
  return means;
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
