// Python's view of plans: pack and unpack whole tensors, and the pieces that tests look at.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "blocks.hpp"
#include "buffer.hpp"
#include "dispatch.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "statistics.hpp"
#include "xxh3.hpp"

namespace fewbits {
namespace {

using Tables = std::vector<std::shared_ptr<const RangeTable>>;

void require_elements(const Plan& plan, const Arrangement& arrangement, Array<uint8_t> data) {
  if (data.size() != arrangement.elements() * static_cast<size_t>(plan.element_bytes))
    throw std::invalid_argument("data are not the elements of the arrangement");
}

nb::tuple pack(const Plan& plan, const Arrangement& arrangement, Array<uint8_t> data, int threads) {
  require_elements(plan, arrangement, data);
  Bytes payload = allocate_bytes(data.size());
  Packed packed;
  {
    nb::gil_scoped_release release;
    packed = pack_blocks(plan, arrangement, data.data(), threads, payload.get());
  }
  uint8_t* const memory = payload.get();
  nb::capsule owner(payload.release(), [](void* p) noexcept { std::free(p); });
  nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> bytes(memory, {packed.payload_bytes}, owner);
  return nb::make_tuple(std::move(bytes), to_numpy(std::move(packed.modes)),
                        to_numpy(std::move(packed.lengths)), to_numpy(std::move(packed.checksums)));
}

// The payload behind a header, written where it is to stay: a second copy of a large payload would take longer
// than coding it. The header is known only afterwards, its size before.
nb::object pack_frame(const Plan& plan, const Arrangement& arrangement, Array<uint8_t> data,
                      int threads, size_t header_bytes, nb::callable make_header) {
  require_elements(plan, arrangement, data);
  nb::object frame = nb::steal(PyBytes_FromStringAndSize(
      nullptr, static_cast<Py_ssize_t>(header_bytes + data.size())));
  if (!frame.is_valid()) nb::raise_python_error();
  auto* const start = reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(frame.ptr()));
  prefer_large_pages(start, header_bytes + data.size());
  Packed packed;
  {
    nb::gil_scoped_release release;
    packed = pack_blocks(plan, arrangement, data.data(), threads, start + header_bytes);
  }
  const auto header = nb::cast<nb::bytes>(
      make_header(to_numpy(std::move(packed.modes)), to_numpy(std::move(packed.lengths)),
                  to_numpy(std::move(packed.checksums))));
  if (header.size() != header_bytes)
    throw std::runtime_error("the header is not of the size that was told");
  std::memcpy(start, header.c_str(), header_bytes);
  PyObject* shrunk = frame.release().ptr();
  if (_PyBytes_Resize(&shrunk, static_cast<Py_ssize_t>(header_bytes + packed.payload_bytes)))
    nb::raise_python_error();
  return nb::steal(shrunk);
}

int64_t unpack(const Plan& plan, const Arrangement& arrangement, Array<uint8_t> payload,
               Array<uint8_t> modes, Array<uint32_t> lengths, Array<uint64_t> checksums,
               size_t first_block, MutableArray<uint8_t> out, size_t first_element, bool verify,
               int threads) {
  const size_t blocks = checksums.size();
  const auto element = static_cast<size_t>(plan.element_bytes);
  if (modes.size() != blocks * plan.planes.size() || lengths.size() != modes.size())
    throw std::invalid_argument("block index: columns differ in length");
  if (reinterpret_cast<uintptr_t>(out.data()) % element || out.size() % element)
    throw std::invalid_argument("the output buffer is not one of whole elements");
  const Blocks some{first_block,      blocks,         modes.data(),  lengths.data(),
                    checksums.data(), payload.data(), payload.size()};
  const Window window{first_element, first_element + out.size() / element, out.data()};
  nb::gil_scoped_release release;
  return unpack_blocks(plan, arrangement, some, window, verify, threads);
}

int64_t multiply(const Plan& plan, const Arrangement& arrangement, Array<uint8_t> payload,
                 Array<uint8_t> modes, Array<uint32_t> lengths, Array<uint64_t> checksums,
                 int number, size_t columns, Array<float> vectors, MutableArray<float> out,
                 bool verify, int threads) {
  const size_t blocks = checksums.size();
  if (modes.size() != blocks * plan.planes.size() || lengths.size() != modes.size())
    throw std::invalid_argument("block index: columns differ in length");
  if (number < 0 || number > static_cast<int>(Number::int8) || !columns ||
      vectors.size() % columns || arrangement.elements() % columns)
    throw std::invalid_argument("vectors do not go with the matrix");
  const size_t rows = arrangement.elements() / columns, count = vectors.size() / columns;
  if (out.size() != rows * count)
    throw std::invalid_argument("the output is not a product for each row and vector");
  const Blocks all{0, blocks, modes.data(), lengths.data(), checksums.data(), payload.data(),
                   payload.size()};
  const Vectors with{static_cast<Number>(number), columns, count, vectors.data(), out.data(), rows};
  nb::gil_scoped_release release;
  return multiply_blocks(plan, arrangement, all, with, verify, threads);
}

// Bytes as rows of elements; throws if they are not whole elements.
size_t elements_in(int element_bytes, Array<uint8_t> data) {
  if (data.size() % static_cast<size_t>(element_bytes))
    throw std::invalid_argument("data are not a whole number of elements");
  return data.size() / static_cast<size_t>(element_bytes);
}

nb::ndarray<nb::numpy, uint64_t, nb::ndim<1>> histograms(const Plan& plan, size_t plane,
                                                         Array<uint8_t> data, size_t row_elements,
                                                         Array<uint8_t> bin_of_row, size_t bins,
                                                         int dropped_bits, size_t row_step) {
  const size_t elements = elements_in(plan.element_bytes, data);
  std::vector<uint64_t> counts;
  {
    nb::gil_scoped_release release;
    const std::vector<uint8_t> bin_of(bin_of_row.data(), bin_of_row.data() + bin_of_row.size());
    counts = dropped_bits || row_step != 1
                 ? coarse_histograms(plan, plane, data.data(), elements, row_elements, bin_of, bins,
                                     dropped_bits, row_step)
                 : plane_histograms(plan, plane, data.data(), elements, row_elements, bin_of, bins);
  }
  return to_numpy(std::move(counts));
}

void require_width(const RangeTable& table, size_t value_bytes) {
  if ((table.width > 8) != (value_bytes == 2))
    throw nb::value_error("values of this size do not go with a table of this width");
}

template <typename Value>
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> encode(Array<Value> values, const RangeTable& table,
                                                    int verbatim_bits) {
  require_width(table, sizeof(Value));
  std::vector<uint8_t> payload;
  {
    nb::gil_scoped_release release;
    const RansTable rans(table, verbatim_bits);
    if (!rans_encode({{&rans, values.size()}}, values.data(), payload))
      throw std::invalid_argument("a value has no row in this range table");
  }
  return to_numpy(std::move(payload));
}

template <typename Value>
bool decode(Array<uint8_t> data, const RangeTable& table, int verbatim_bits,
            MutableArray<Value> out) {
  require_width(table, sizeof(Value));
  nb::gil_scoped_release release;
  const RansTable rans(table, verbatim_bits);
  RansReader<Value> reader({{&rans, out.size()}});
  return reader.open(data.data(), data.size()) &&
         reader.read(out.data(), out.size()) && reader.finished();
}

}  // namespace

void bind_blocks(nb::module_& m) {
  nb::class_<Plane>(m, "Plane")
      .def("__init__",
           [](Plane* self, int bytes, int offset, int coder, int verbatim_bits, Tables tables) {
             if (coder < 0 || coder > static_cast<int>(Coder::arithmetic))
               throw std::invalid_argument("plane: unknown coder");
             new (self) Plane(bytes, offset, static_cast<Coder>(coder), verbatim_bits,
                              std::move(tables));
           },
           nb::arg("bytes"), nb::arg("offset"), nb::arg("coder"), nb::arg("verbatim_bits"),
           nb::arg("tables"));
  nb::class_<Plan>(m, "Plan")
      .def("__init__",
           [](Plan* self, int element_bytes, int remap, const std::vector<Plane*>& planes) {
             if (remap < 0 || remap > static_cast<int>(Remap::sign_to_lsb))
               throw std::invalid_argument("plan: unknown remap");
             std::vector<Plane> copies;
             for (const Plane* plane : planes) copies.push_back(*plane);
             new (self) Plan(element_bytes, static_cast<Remap>(remap), std::move(copies));
           },
           nb::arg("element_bytes"), nb::arg("remap"), nb::arg("planes"))
      .def("pack", &pack, nb::arg("arrangement"), nb::arg("data"), nb::arg("threads"))
      .def("pack_frame", &pack_frame, nb::arg("arrangement"), nb::arg("data"), nb::arg("threads"),
           nb::arg("header_bytes"), nb::arg("make_header"))
      .def("unpack", &unpack, nb::arg("arrangement"), nb::arg("payload"), nb::arg("modes"),
           nb::arg("lengths"), nb::arg("checksums"), nb::arg("first_block"), nb::arg("out"),
           nb::arg("first_element"), nb::arg("verify"), nb::arg("threads"))
      .def("multiply", &multiply, nb::arg("arrangement"), nb::arg("payload"), nb::arg("modes"),
           nb::arg("lengths"), nb::arg("checksums"), nb::arg("number"), nb::arg("columns"),
           nb::arg("vectors"), nb::arg("out"), nb::arg("verify"), nb::arg("threads"))
      .def("histograms", &histograms, nb::arg("plane"), nb::arg("data"), nb::arg("row_elements"),
           nb::arg("bin_of_row"), nb::arg("bins"), nb::arg("dropped_bits") = 0,
           nb::arg("row_step") = 1);
  nb::class_<Arrangement>(m, "Arrangement")
      .def(nb::init<size_t, size_t>(), nb::arg("elements"), nb::arg("block_elements"))
      .def("__init__",
           [](Arrangement* self, size_t elements, size_t block_elements, size_t row_elements,
              Array<uint8_t> class_of_row, const std::vector<bool>& starts_group) {
             const std::vector<uint8_t> classes(class_of_row.data(),
                                                class_of_row.data() + class_of_row.size());
             new (self)
                 Arrangement(elements, block_elements, row_elements, classes, starts_group);
           },
           nb::arg("elements"), nb::arg("block_elements"), nb::arg("row_elements"),
           nb::arg("class_of_row"), nb::arg("starts_group"))
      .def_prop_ro("blocks", &Arrangement::blocks)
      .def("block_of", [](const Arrangement& self, size_t b) {
             if (b >= self.blocks()) throw nb::index_error("no such block");
             return std::pair(self.block(b).start, self.block(b).count);
           }, nb::arg("block"))
      .def("blocks_of", &Arrangement::blocks_of, nb::arg("first"), nb::arg("last"));
  m.def("rans_encode", &encode<uint8_t>, nb::arg("values"), nb::arg("table"),
        nb::arg("verbatim_bits") = 0);
  m.def("rans_encode", &encode<uint16_t>, nb::arg("values"), nb::arg("table"),
        nb::arg("verbatim_bits") = 0);
  m.def("rans_decode", &decode<uint8_t>, nb::arg("data"), nb::arg("table"),
        nb::arg("verbatim_bits"), nb::arg("out"));
  m.def("rans_decode", &decode<uint16_t>, nb::arg("data"), nb::arg("table"),
        nb::arg("verbatim_bits"), nb::arg("out"));
  m.def("xxh3", [](Array<uint8_t> data) { return xxh3(data.data(), data.size()); },
        nb::arg("data"));
  m.def("set_team",
        [](uintptr_t address) { set_team(reinterpret_cast<Team>(address)); }, nb::arg("address"));
  m.def("work_apart", &work_apart);
  m.def("simd", &simd_name);
  m.def("set_simd", &set_simd, nb::arg("name"));
  m.def("available_simd", &available_simd);
}

}  // namespace fewbits
