// The Python module: one place that lists what the kernels offer.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>

#include "bindings.hpp"
#include "range_table.hpp"
#include "table_bits.hpp"

NB_MODULE(_kernels, m) {
  using namespace fewbits;
  nb::set_leak_warnings(false);  // a table in a global of the caller outlives the module
  m.doc() = "Hot loops of Fewbits; call them through the Python rooms, not directly.";
  nb::class_<RangeTable>(m, "Table")
      .def(nb::init<int, int, std::vector<uint32_t>, std::vector<uint32_t>, std::vector<uint32_t>>(),
           nb::arg("width"), nb::arg("count_bits"), nb::arg("starts"), nb::arg("offset_lengths"),
           nb::arg("counts"))
      .def_ro("width", &RangeTable::width)
      .def_ro("count_bits", &RangeTable::count_bits)
      .def_ro("starts", &RangeTable::starts)
      .def_ro("offset_lengths", &RangeTable::offset_lengths)
      .def_ro("counts", &RangeTable::counts);
  m.def(
      "read_table",
      [](Array<uint8_t> data, int width) {
        size_t taken = 0;
        // Tables are shared with planes, and hold a flag that cannot be moved: so on the heap.
        auto table = std::shared_ptr<RangeTable>(
            new RangeTable(read_table(data.data(), data.size(), width, taken)));
        return std::pair(std::move(table), taken);
      },
      nb::arg("data"), nb::arg("width"));
  bind_arithmetic(m);
  bind_blocks(m);
  bind_lossy(m);
  bind_lossy_blocks(m);
  bind_search(m);
  bind_choose(m);
}
