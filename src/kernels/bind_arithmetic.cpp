// Python's view of the arithmetic kernels.
#include <stdexcept>
#include <string>

#include "arithmetic.hpp"
#include "bindings.hpp"

namespace fewbits {
namespace {

void require_window_fits(const RangeTable& table) {
  if (table.count_bits > kArithmeticMaxCountBits)
    throw nb::value_error("the arithmetic coder's 16-bit window takes at most 14 count bits");
}

template <typename Value>
std::string first_without_row(const Value* values, size_t n, const RangeTable& table) {
  for (size_t i = 0; i < n; ++i)
    if (values[i] >= table.row_of().size() || table.row_of()[values[i]] == kNoRow)
      return "value " + std::to_string(values[i]) + " has no row in this range table";
  return "a value has no row in this range table";
}

template <typename Value>
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> encode(Array<Value> values, const RangeTable& table) {
  require_window_fits(table);
  std::vector<uint8_t> payload;
  {
    nb::gil_scoped_release release;
    if (!arithmetic_encode(values.data(), values.size(), table, payload))
      throw std::invalid_argument(first_without_row(values.data(), values.size(), table));
  }
  return to_numpy(std::move(payload));
}

template <typename Value>
bool decode(Array<uint8_t> data, const RangeTable& table, MutableArray<Value> out) {
  require_window_fits(table);
  nb::gil_scoped_release release;
  return arithmetic_decode(data.data(), data.size(), table, out.data(), out.size());
}

}  // namespace

void bind_arithmetic(nb::module_& m) {
  const char* encode_doc = "The payload of 1-d values; ValueError for a value without a row.";
  const char* decode_doc = "Fill out with the payload's values; False if it is malformed.";
  m.def("arithmetic_encode", &encode<uint8_t>, nb::arg("values"), nb::arg("table"), encode_doc);
  m.def("arithmetic_encode", &encode<uint16_t>, nb::arg("values"), nb::arg("table"), encode_doc);
  m.def("arithmetic_decode", &decode<uint8_t>, nb::arg("data"), nb::arg("table"), nb::arg("out"),
        decode_doc);
  m.def("arithmetic_decode", &decode<uint16_t>, nb::arg("data"), nb::arg("table"), nb::arg("out"),
        decode_doc);
}

}  // namespace fewbits
