// Python's view of the search kernels.
#include <stdexcept>

#include <nanobind/stl/pair.h>

#include "bindings.hpp"
#include "search.hpp"

namespace fewbits {

namespace {

std::vector<double> to_doubles(Array<int64_t> histogram) {
  if (histogram.shape(0) < 2 || histogram.shape(0) > 1 << 16)
    throw std::invalid_argument("a histogram counts 2 to 65536 values");
  return {histogram.data(), histogram.data() + histogram.shape(0)};
}

Rows optimal_rows(const std::vector<double>& histogram, size_t rows, double counts, bool covering,
                  int max_offset_length, int verbatim_bits, bool exact, size_t plain_up_to) {
  const Candidates candidates = all_candidates(histogram, covering);
  const size_t last = candidates.last();
  if (last == 0) return {{0}, {0}};
  const double total = candidates.below[last];
  const RowCost cost{total, total / counts, verbatim_bits, max_offset_length};
  const auto search = last <= plain_up_to ? plain_search : exact ? exact_search : coarse_search;
  const Boundaries boundaries = search(candidates, cost, rows);
  Rows result;
  for (size_t row = 0; row + 1 < boundaries.size(); ++row) {
    const uint32_t a = boundaries[row], b = boundaries[row + 1];
    result.starts.push_back(candidates.first[a]);
    result.offset_lengths.push_back(offset_length(candidates.values(a, b)));
  }
  return result;
}

}  // namespace

void bind_search(nb::module_& m) {
  m.def(
      "optimal_rows",
      [](Array<int64_t> histogram, size_t rows, uint32_t counts, bool covering,
         int max_offset_length, int verbatim_bits, bool exact, size_t plain_up_to) {
        const std::vector<double> occurrences = to_doubles(histogram);
        Rows found;
        {
          nb::gil_scoped_release released;
          found = optimal_rows(occurrences, rows, counts, covering, max_offset_length,
                               verbatim_bits, exact, plain_up_to);
        }
        return std::pair(std::move(found.starts), std::move(found.offset_lengths));
      },
      nb::arg("histogram"), nb::arg("rows"), nb::arg("counts"), nb::arg("covering"),
      nb::arg("max_offset_length"), nb::arg("verbatim_bits"), nb::arg("exact"),
      nb::arg("plain_up_to") = kPlainCandidates);
  m.def(
      "paper_rows",
      [](Array<int64_t> histogram, size_t rows, int max_offset_length, double threshold,
         int depth) {
        const std::vector<double> occurrences = to_doubles(histogram);
        if (rows < 1 || rows > occurrences.size() || depth < 1)
          throw std::invalid_argument("a table has a row, and no more rows than values");
        nb::gil_scoped_release released;
        return paper_search(occurrences, rows, max_offset_length, threshold, depth);
      },
      nb::arg("histogram"), nb::arg("rows"), nb::arg("max_offset_length"), nb::arg("threshold"),
      nb::arg("depth"));
}

}  // namespace fewbits
