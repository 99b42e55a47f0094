// The Python module: one place that lists what the kernels offer.
#include <nanobind/stl/shared_ptr.h>

#include "bindings.hpp"
#include "range_table.hpp"

NB_MODULE(_kernels, m) {
  using namespace fewbits;
  nb::set_leak_warnings(false);  // a table in a global of the caller outlives the module
  m.doc() = "Hot loops of Fewbits; call them through the Python rooms, not directly.";
  nb::class_<RangeTable>(m, "Table")
      .def(nb::init<int, int, std::vector<uint32_t>, std::vector<uint32_t>, std::vector<uint32_t>>(),
           nb::arg("width"), nb::arg("count_bits"), nb::arg("starts"), nb::arg("offset_lengths"),
           nb::arg("counts"));
  bind_arithmetic(m);
  bind_blocks(m);
  bind_search(m);
}
