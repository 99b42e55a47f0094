// What the binding files share: array types at the border to Python. The kernels themselves know
// nothing of Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <vector>

namespace fewbits {

namespace nb = nanobind;

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using MutableArray = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Hands a vector to NumPy without copying it.
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> to_numpy(std::vector<T>&& values) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {owned->size()}, owner);
}

void bind_arithmetic(nb::module_& m);
void bind_blocks(nb::module_& m);
void bind_lossy(nb::module_& m);
void bind_lossy_blocks(nb::module_& m);
void bind_search(nb::module_& m);
void bind_choose(nb::module_& m);

}  // namespace fewbits
