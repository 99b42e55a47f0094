// Choosing how to code a tensor: which remap and cut, which classes of rows, which tables, and where coding
// does not pay. Every candidate is priced from histograms by what it would really take, its tables included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "search_coding.hpp"

namespace fewbits {

struct Choice {
  size_t cut = 0;
  std::vector<uint8_t> class_of_row;  // empty where rows are in no classes
  std::vector<bool> starts_group;
  std::vector<ChosenPlane> planes;
  double entropy_bits = 0, price_bits = 0;
};

// Which of the cuts, plans without tables of which the likeliest is the first, and what tables. Rows of
// row_elements may have tables of their own, told apart as `folded` remaps them; 0: they may not.
Choice choose(const std::vector<const Plan*>& cuts, Remap folded, const uint8_t* data, size_t elements,
              size_t row_elements, const ChoiceSettings& settings);

}  // namespace fewbits
