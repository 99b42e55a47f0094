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

// The same without the values' lowest `dropped` bits, and of every `step`th row only.
std::vector<uint64_t> coarse_histograms(const Plan& plan, size_t plane, const uint8_t* data,
                                        size_t elements, size_t row_elements,
                                        const std::vector<uint8_t>& bin_of_row, size_t bins,
                                        int dropped, size_t step);

// For each row the mean of its values of one plane, by their top 8 bits; of nibbles their distance from 0 in a
// circle of 16. Rows of one distribution, scaled differently, differ in it.
std::vector<float> row_means(const Plan& plan, size_t plane, const uint8_t* data, size_t elements,
                             size_t row_elements);

// For each row how many low bits are zero in all its elements (all of them in a row of zeros).
std::vector<uint8_t> row_zero_bits(int element_bytes, const uint8_t* data, size_t elements,
                                   size_t row_elements);

}  // namespace fewbits
