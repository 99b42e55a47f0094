// Python's view of plans: pack and unpack whole tensors, and the pieces that tests look at.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "blocks.hpp"
#include "dispatch.hpp"
#include "xxh3.hpp"

namespace fewbits {
namespace {

using Tables = std::vector<std::shared_ptr<const RangeTable>>;

nb::tuple pack(const Plan& plan, Array<uint8_t> data, int threads) {
  if (data.size() % static_cast<size_t>(plan.element_bytes))
    throw std::invalid_argument("data are not a whole number of elements");
  Packed packed;
  {
    nb::gil_scoped_release release;
    packed = pack_blocks(plan, data.data(), data.size(), threads);
  }
  uint8_t* const payload = packed.payload.get();
  nb::capsule owner(packed.payload.release(), [](void* p) noexcept { std::free(p); });
  nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> bytes(payload, {packed.payload_bytes}, owner);
  return nb::make_tuple(std::move(bytes), to_numpy(std::move(packed.modes)),
                        to_numpy(std::move(packed.lengths)), to_numpy(std::move(packed.checksums)));
}

int64_t unpack(const Plan& plan, Array<uint8_t> payload, Array<uint8_t> modes,
               Array<uint32_t> lengths, Array<uint64_t> checksums, MutableArray<uint8_t> out,
               bool verify, int threads) {
  const size_t blocks = checksums.size();
  if (modes.size() != blocks * plan.planes.size() || lengths.size() != modes.size())
    throw std::invalid_argument("block index: columns differ in length");
  if (reinterpret_cast<uintptr_t>(out.data()) % static_cast<size_t>(plan.element_bytes))
    throw std::invalid_argument("the output buffer is not aligned to its elements");
  nb::gil_scoped_release release;
  return unpack_blocks(plan, payload.data(), payload.size(), modes.data(), lengths.data(),
                       checksums.data(), blocks, out.data(), out.size(), verify, threads);
}

nb::ndarray<nb::numpy, uint64_t, nb::ndim<1>> histogram(const Plan& plan, size_t plane,
                                                        Array<uint8_t> data) {
  if (data.size() % static_cast<size_t>(plan.element_bytes))
    throw std::invalid_argument("data are not a whole number of elements");
  std::vector<uint64_t> counts;
  {
    nb::gil_scoped_release release;
    counts = plane_histogram(plan, plane, data.data(), data.size());
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
    if (!rans_encode(RansTable(table, verbatim_bits), values.data(), values.size(), payload))
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
  RansReader<Value> reader(rans);
  return reader.open(data.data(), data.size(), out.size()) &&
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
           [](Plan* self, int element_bytes, int remap, size_t block_elements,
              const std::vector<Plane*>& planes) {
             if (remap < 0 || remap > static_cast<int>(Remap::sign_to_lsb))
               throw std::invalid_argument("plan: unknown remap");
             std::vector<Plane> copies;
             for (const Plane* plane : planes) copies.push_back(*plane);
             new (self) Plan(element_bytes, static_cast<Remap>(remap), block_elements,
                             std::move(copies));
           },
           nb::arg("element_bytes"), nb::arg("remap"), nb::arg("block_elements"),
           nb::arg("planes"))
      .def("pack", &pack, nb::arg("data"), nb::arg("threads"))
      .def("unpack", &unpack, nb::arg("payload"), nb::arg("modes"), nb::arg("lengths"),
           nb::arg("checksums"), nb::arg("out"), nb::arg("verify"), nb::arg("threads"))
      .def("histogram", &histogram, nb::arg("plane"), nb::arg("data"));
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
  m.def("simd", &simd_name);
  m.def("set_simd", &set_simd, nb::arg("name"));
  m.def("available_simd", &available_simd);
}

}  // namespace fewbits
