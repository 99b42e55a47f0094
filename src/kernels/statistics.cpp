#include "statistics.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "elements.hpp"

namespace fewbits {

namespace {

// So many elements are remapped and cut at a time: what stays in a first-level cache.
constexpr size_t kStep = size_t{1} << 12;

// Calls visit(row, values, count) for each row's values of a plane, some at a time.
template <typename Visit>
void each_row(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
              size_t row_elements, const Visit& visit) {
  const Plane& plane = plan.planes.at(index);
  with_element(plan.element_bytes, [&](auto zero) {
    using T = decltype(zero);
    for (size_t at = 0; at < elements;) {
      const size_t count = std::min(kStep, elements - at);
      std::vector<T>& step = scratch<T, Use::elements>(count);
      std::memcpy(step.data(), data + at * sizeof(T), count * sizeof(T));
      remap_forward(plan.remap, step.data(), count);
      const auto by_row = [&](const auto& values) {
        const size_t each = values.size() / count;
        for (size_t i = 0; i < count;) {
          const size_t run = std::min(row_elements - (at + i) % row_elements, count - i);
          visit((at + i) / row_elements, values.data() + i * each, run * each);
          i += run;
        }
      };
      plane.bytes == 2 ? by_row(cut<uint16_t>(plane, step)) : by_row(cut<uint8_t>(plane, step));
      at += count;
    }
  });
}

size_t rows_of(size_t elements, size_t row_elements) {
  if (row_elements < 1) throw std::invalid_argument("statistics: rows of nothing");
  return elements / row_elements + (elements % row_elements != 0);
}

}  // namespace

std::vector<uint64_t> plane_histograms(const Plan& plan, size_t index, const uint8_t* data,
                                       size_t elements, size_t row_elements,
                                       const std::vector<uint8_t>& bin_of_row, size_t bins,
                                       int dropped) {
  const Plane& plane = plan.planes.at(index);
  if (bin_of_row.size() != rows_of(elements, row_elements) ||
      std::any_of(bin_of_row.begin(), bin_of_row.end(), [&](uint8_t b) { return b >= bins; }))
    throw std::invalid_argument("statistics: every row needs a bin");
  const int width = plane.bytes == 0 ? 4 : 8 * plane.bytes;
  if (dropped < 0 || dropped > width) throw std::invalid_argument("statistics: too few bits");
  const size_t values = size_t{1} << (width - dropped);
  std::vector<uint64_t> counts(bins * values, 0);
  // Two tallies in turn, so that a run of equal values does not wait on its own last increment.
  std::vector<uint32_t> even(counts.size()), odd(counts.size());
  const auto empty_tallies = [&] {
    for (size_t v = 0; v < counts.size(); ++v) {
      counts[v] += uint64_t{even[v]} + odd[v];
      even[v] = odd[v] = 0;
    }
  };
  size_t tallied = 0;
  each_row(plan, index, data, elements, row_elements, [&](size_t row, const auto* v, size_t n) {
    uint32_t* const a = even.data() + bin_of_row[row] * values;
    uint32_t* const b = odd.data() + bin_of_row[row] * values;
    size_t i = 0;
    for (; i + 1 < n; i += 2) {
      ++a[v[i] >> dropped];
      ++b[v[i + 1] >> dropped];
    }
    if (i < n) ++a[v[i] >> dropped];
    if ((tallied += n) > size_t{1} << 31) {  // before a 32-bit tally can overflow
      empty_tallies();
      tallied = 0;
    }
  });
  empty_tallies();
  return counts;
}

std::vector<float> row_means(const Plan& plan, size_t index, const uint8_t* data, size_t elements,
                             size_t row_elements) {
  std::vector<uint64_t> sums(rows_of(elements, row_elements), 0);
  std::vector<uint64_t> counts(sums.size(), 0);
  const bool nibbles = plan.planes.at(index).bytes == 0;
  each_row(plan, index, data, elements, row_elements, [&](size_t row, const auto* v, size_t n) {
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
