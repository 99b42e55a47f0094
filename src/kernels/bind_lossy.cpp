// Python's view of the kernels of lossy codecs. They take addresses, as PyTorch tensors of every dtype have
// one and no conversion is as quick; src/fewbits/lossy/native.py checks what lies there.
#include "bindings.hpp"
#include "lossy_mask.hpp"
#include "lossy_quantize.hpp"

namespace fewbits {

namespace {

template <typename T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void bind_masks(nb::module_& m) {
  m.def(
      "pack_mask",
      [](int kind, uintptr_t x, size_t n, uintptr_t bits, int threads) {
        return pack_mask(Float{kind}, at<const void>(x), n, at<uint8_t>(bits), threads);
      },
      nb::arg("kind"), nb::arg("x"), nb::arg("n"), nb::arg("bits"), nb::arg("threads"),
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "apply_mask",
      [](int kind, uintptr_t x, uintptr_t bits, size_t n, bool positive, uintptr_t out, int threads) {
        apply_mask(Float{kind}, at<const void>(x), at<const uint8_t>(bits), n, positive, at<void>(out), threads);
      },
      nb::arg("kind"), nb::arg("x"), nb::arg("bits"), nb::arg("n"), nb::arg("positive"), nb::arg("out"),
      nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "spread_mask",
      [](int kind, uintptr_t value, uintptr_t bits, size_t n, uintptr_t out, int threads) {
        spread_mask(Float{kind}, at<const void>(value), at<const uint8_t>(bits), n, at<void>(out), threads);
      },
      nb::arg("kind"), nb::arg("value"), nb::arg("bits"), nb::arg("n"), nb::arg("out"),
      nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
}

void bind_quantizer(nb::module_& m) {
  nb::class_<Quantizer>(m, "Quantizer")
      .def(
          "__init__",
          [](Quantizer* q, int bits, size_t group, bool stochastic, bool zeros, uint32_t key0, uint32_t key1) {
            const int steps = (1 << bits) - (zeros ? 2 : 1);
            new (q) Quantizer{bits, group, stochastic, zeros, key0, key1,
                              steps ? static_cast<float>(1.0 / steps) : 0.0f};
          },
          nb::arg("bits"), nb::arg("group"), nb::arg("stochastic"), nb::arg("zeros"),
          nb::arg("key0") = 0, nb::arg("key1") = 0)
      .def(
          "encode",
          [](const Quantizer& q, int kind, uintptr_t x, size_t n, uintptr_t codes, uintptr_t grids, int threads) {
            quantize(q, Float{kind}, at<const void>(x), n, at<uint8_t>(codes), at<uint16_t>(grids), threads);
          },
          nb::arg("kind"), nb::arg("x"), nb::arg("n"), nb::arg("codes"), nb::arg("grids"),
          nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>())
      .def(
          "decode",
          [](const Quantizer& q, int kind, uintptr_t codes, uintptr_t grids, size_t n, uintptr_t x, int threads) {
            dequantize(q, Float{kind}, at<const uint8_t>(codes), at<const uint16_t>(grids), n, at<void>(x),
                       threads);
          },
          nb::arg("kind"), nb::arg("codes"), nb::arg("grids"), nb::arg("n"), nb::arg("x"),
          nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_lossy(nb::module_& m) {
  bind_masks(m);
  bind_quantizer(m);
}

}  // namespace fewbits
