// Elements on their way from a tensor's bytes into the values of a plane, in memory that a thread keeps.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "blocks.hpp"
#include "dispatch.hpp"

namespace fewbits {

// Calls f with an element type of the plan's width.
template <typename F>
auto with_element(int element_bytes, F&& f) {
  switch (element_bytes) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

// Memory that a thread keeps from one block to the next, one piece for each use.
enum class Use { elements, values, payload };
template <typename T, Use kUse>
std::vector<T>& scratch(size_t n) {
  thread_local std::vector<T> memory;
  memory.resize(n);
  return memory;
}

namespace {  // as the loops of planes.hpp

template <typename T>
PlaneLoops<T> plane_loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return plane_loops_avx512<T>();
  if (simd() == Simd::avx2) return plane_loops_avx2<T>();
#endif
  return kPlaneLoops<T>;
}

// The values of one plane of a block: the elements themselves where the plane is all of them.
template <typename Value, typename T>
const std::vector<Value>& cut(const Plane& plane, const std::vector<T>& elements) {
  if constexpr (std::is_same_v<T, Value>)
    if (plane.bytes) return elements;
  std::vector<Value>& values = scratch<Value, Use::values>(elements.size() * (plane.bytes ? 1 : 2));
  if constexpr (sizeof(T) == 1 && sizeof(Value) == 1)
    if (plane.bytes == 0) {
      cut_nibbles(elements.data(), elements.size(), values.data());
      return values;
    }
  cut_plane(elements.data(), elements.size(), plane.offset, values.data());
  return values;
}

}  // namespace

}  // namespace fewbits
