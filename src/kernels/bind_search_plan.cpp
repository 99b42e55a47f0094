// Python's view of choosing.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>

#include "bindings.hpp"
#include "search_plan.hpp"
#include "search.hpp"
#include "search_table.hpp"

namespace fewbits {

namespace {

nb::tuple choose_plan(const std::vector<Plan*>& cuts, int folded, Array<uint8_t> data, size_t row_elements,
                      bool arithmetic, bool paper, bool thorough, size_t rows, size_t classes,
                      int count_bits) {
  if (cuts.empty()) throw std::invalid_argument("choose: no cuts");
  const auto element = static_cast<size_t>(cuts[0]->element_bytes);
  if (data.size() % element) throw std::invalid_argument("data are not a whole number of elements");
  Choice choice;
  {
    nb::gil_scoped_release release;
    choice = choose({cuts.begin(), cuts.end()}, static_cast<Remap>(folded), data.data(),
                    data.size() / element, row_elements,
                    {arithmetic, paper, thorough, rows, classes, count_bits});
  }
  nb::list planes;
  for (ChosenPlane& plane : choice.planes) {
    nb::list tables;
    for (auto& table : plane.tables) tables.append(std::const_pointer_cast<RangeTable>(table));
    planes.append(nb::make_tuple(static_cast<int>(plane.coder), plane.verbatim_bits, tables));
  }
  return nb::make_tuple(choice.cut, to_numpy(std::move(choice.class_of_row)), choice.starts_group, planes,
                        choice.entropy_bits, choice.price_bits);
}

}  // namespace

void bind_choose(nb::module_& m) {
  m.def("choose", &choose_plan, nb::arg("cuts"), nb::arg("folded"), nb::arg("data"),
        nb::arg("row_elements"), nb::arg("arithmetic"), nb::arg("paper"), nb::arg("thorough"),
        nb::arg("rows"), nb::arg("classes"), nb::arg("count_bits"));
  m.def("write_table", [](const RangeTable& table) {
    const std::vector<uint8_t> bytes = write_table(table);
    return nb::bytes(bytes.data(), bytes.size());
  }, nb::arg("table"));
  m.def(
      "quick_rows",
      [](Array<int64_t> counted, size_t rows, uint32_t counts, int max_offset_length,
         int verbatim_bits) {
        std::vector<double> histogram(counted.data(), counted.data() + counted.shape(0));
        const Candidates candidates = all_candidates(histogram, false);
        if (candidates.last() == 0) throw std::invalid_argument("a histogram of nothing");
        const double total = candidates.below.back();
        const RowCost cost{total, total / counts, verbatim_bits, max_offset_length};
        const Boundaries boundaries = quick_search(candidates, cost, rows);
        Rows result;
        for (size_t row = 0; row + 1 < boundaries.size(); ++row) {
          const uint32_t a = boundaries[row], b = boundaries[row + 1];
          result.starts.push_back(candidates.first[a]);
          result.offset_lengths.push_back(offset_length(candidates.values(a, b)));
        }
        return std::pair(std::move(result.starts), std::move(result.offset_lengths));
      },
      nb::arg("histogram"), nb::arg("rows"), nb::arg("counts"), nb::arg("max_offset_length"),
      nb::arg("verbatim_bits"));
  m.def("exact_counts", &exact_counts, nb::arg("occurrences"), nb::arg("total"));
  m.def("paper_counts", &paper_counts, nb::arg("occurrences"), nb::arg("total"));
}

}  // namespace fewbits
