// Python's view of the kernels of codecs that work on blocks. They take addresses, as PyTorch tensors of every
// dtype have one; src/fewbits/lossy/native.py checks what lies there.
#include <nanobind/stl/array.h>

#include <stdexcept>

#include "bindings.hpp"
#include "lossy_bounded.hpp"
#include "lossy_dct.hpp"
#include "lossy_fixedrate.hpp"

namespace fewbits {

namespace {

template <typename T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

using Weights = std::vector<std::vector<float>>;

template <int N>
CosineWeights<N> weights_of(const Weights& forward, const Weights& inverse) {
  CosineWeights<N> weights;
  for (int k = 0; k < N; ++k)
    for (int i = 0; i < N / 2; ++i) {
      weights.forward[k][i] = forward.at(k).at(i);
      weights.inverse[k][i] = inverse.at(k).at(i);
    }
  return weights;
}

void bind_bounded(nb::module_& m) {
  m.def(
      "bound_encode",
      [](float step, float inverse, float limit, bool dither, uint32_t key0, uint32_t key1, int kind,
         uintptr_t x, size_t n, uintptr_t words, uintptr_t entries, int threads) {
        const Bounder b{step, inverse, limit, dither, key0, key1};
        return bound_encode(b, Float{kind}, at<const void>(x), n, at<uint32_t>(words), at<uint8_t>(entries),
                            threads);
      },
      nb::arg("step"), nb::arg("inverse"), nb::arg("limit"), nb::arg("dither"), nb::arg("key0"),
      nb::arg("key1"), nb::arg("kind"), nb::arg("x"), nb::arg("n"), nb::arg("words"), nb::arg("entries"),
      nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "bound_decode",
      [](float step, int kind, uintptr_t words, size_t count, uintptr_t entries, size_t n, uintptr_t x,
         int threads) {
        bound_decode(step, Float{kind}, at<const uint32_t>(words), count, at<const uint8_t>(entries), n,
                     at<void>(x), threads);
      },
      nb::arg("step"), nb::arg("kind"), nb::arg("words"), nb::arg("count"), nb::arg("entries"), nb::arg("n"),
      nb::arg("x"), nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_lossy_blocks(nb::module_& m) {
  bind_bounded(m);
  nb::class_<Dct>(m, "Dct")
      .def(
          "__init__",
          [](Dct* d, std::array<size_t, 3> shape, int chop, std::array<int, kSide * kSide> slot,
             const Weights& forward, const Weights& inverse) {
            new (d) Dct{shape[0], shape[1], shape[2], chop, slot, weights_of<kSide>(forward, inverse)};
          },
          nb::arg("shape"), nb::arg("chop"), nb::arg("slot"), nb::arg("forward"), nb::arg("inverse"))
      .def(
          "encode",
          [](const Dct& d, int kind, uintptr_t x, uintptr_t coefficients, int threads) {
            dct_encode(d, Float{kind}, at<const void>(x), at<void>(coefficients), threads);
          },
          nb::arg("kind"), nb::arg("x"), nb::arg("coefficients"), nb::arg("threads"),
          nb::call_guard<nb::gil_scoped_release>())
      .def(
          "decode",
          [](const Dct& d, int kind, uintptr_t coefficients, uintptr_t x, int threads) {
            dct_decode(d, Float{kind}, at<const void>(coefficients), at<void>(x), threads);
          },
          nb::arg("kind"), nb::arg("coefficients"), nb::arg("x"), nb::arg("threads"),
          nb::call_guard<nb::gil_scoped_release>());
  nb::class_<FixedRate>(m, "FixedRate")
      .def(
          "__init__",
          [](FixedRate* f, int dims, int budget, int largest_fall, std::vector<int> sizes,
             std::vector<int> order, size_t outer, std::array<size_t, 3> size, const Weights& forward,
             const Weights& inverse) {
            new (f) FixedRate{dims,  budget, largest_fall, std::move(sizes), std::move(order),
                              outer, size,   weights_of<4>(forward, inverse)};
          },
          nb::arg("dims"), nb::arg("budget"), nb::arg("largest_fall"), nb::arg("sizes"), nb::arg("order"),
          nb::arg("outer"), nb::arg("size"), nb::arg("forward"), nb::arg("inverse"))
      .def(
          "encode",
          [](const FixedRate& f, int kind, uintptr_t x, uintptr_t payload, int threads) {
            fixed_encode(f, Float{kind}, at<const void>(x), at<uint8_t>(payload), threads);
          },
          nb::arg("kind"), nb::arg("x"), nb::arg("payload"), nb::arg("threads"),
          nb::call_guard<nb::gil_scoped_release>())
      .def(
          "decode",
          [](const FixedRate& f, int kind, uintptr_t payload, uintptr_t x, int threads) {
            fixed_decode(f, Float{kind}, at<const uint8_t>(payload), at<void>(x), threads);
          },
          nb::arg("kind"), nb::arg("payload"), nb::arg("x"), nb::arg("threads"),
          nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace fewbits
