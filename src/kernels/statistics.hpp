// What is counted of a tensor before a plan for it is chosen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocks.hpp"

namespace fewbits {

// Occurrences of each value of one plane in the tensor's rows, apart for each bin: bin_of_row.size() rows of
// row_elements elements, the last one what is left. bins x 2^width counts, bin after bin.
std::vector<uint64_t> plane_histograms(const Plan& plan, size_t plane, const uint8_t* data,
                                       size_t elements, size_t row_elements,
                                       const std::vector<uint8_t>& bin_of_row, size_t bins);

// The same without the values' lowest `dropped` bits, and of every `step`th row only, with the first `most` of its
// elements.
std::vector<uint64_t> coarse_histograms(const Plan& plan, size_t plane, const uint8_t* data,
                                        size_t elements, size_t row_elements,
                                        const std::vector<uint8_t>& bin_of_row, size_t bins,
                                        int dropped, size_t step, size_t most = SIZE_MAX);

// Values that are looked for elsewhere: low to high. All by default.
struct Body {
  uint16_t low = 0, high = 0xFFFF;
};

struct RareValue {
  uint32_t row;
  uint16_t value;
};

// What one look at all rows tells of a plane.
struct Glance {
  // For each row the mean of its values, by their top 8 bits; of nibbles their distance from 0 in a circle of 16.
  // Rows of one distribution, scaled differently, differ in it.
  std::vector<float> means;
  // For each row the highest of its values in the body; and all values outside. Not of nibbles.
  std::vector<uint16_t> highest;
  std::vector<RareValue> rare;
};

// Values outside the body had better be few.
Glance glance_at_rows(const Plan& plan, size_t plane, const uint8_t* data, size_t elements,
                      size_t row_elements, Body body);

// For each row how many low bits are zero in all its elements (all of them in a row of zeros).
std::vector<uint8_t> row_zero_bits(int element_bytes, const uint8_t* data, size_t elements,
                                   size_t row_elements);

}  // namespace fewbits
