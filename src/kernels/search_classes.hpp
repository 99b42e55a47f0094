// Classes of rows: which rows of a tensor had better share a range table.
//
// The rows of a weight matrix are much alike but for their scale, and where a float tensor was filled from a
// shorter type, some of its rows have zeros below. So rows are put in order by those two things alone (the mean of
// their remapped values' top bits; how many low bits are zero in all elements), and the order is cut where that
// saves most: a dynamic program over bins of neighbouring rows, priced by order-0 entropy. That finds what
// clustering of whole histograms finds, in a fraction of the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "statistics.hpp"

namespace fewbits {

// Rows in bins of like rows; `kind_of` tells which bins have the same low bytes zero, and ascends.
struct RowBins {
  size_t row_elements = 0;
  std::vector<uint8_t> bin_of_row;
  std::vector<uint8_t> kind_of;
  Glance glance;

  size_t bins() const { return kind_of.size(); }
};

// No bins where classes cannot pay. `plan` says how elements are remapped and cut.
RowBins find_bins(const Plan& plan, const uint8_t* data, size_t elements, size_t row_elements, Body body);

// The first bin of each class: what saves most with up to `most` classes. `counts` are each bin's occurrences of
// `values` values (or of runs of neighbours) in the top plane, bin after bin.
std::vector<size_t> cut_bins(const RowBins& bins, const std::vector<uint64_t>& counts, size_t values,
                             size_t most);

}  // namespace fewbits
