// Between elements and planes: the remap that brings likely values together, and the cut of each
// element into the one- or two-byte fields that are coded apart.
//
// An element of 1, 2, 4 or 8 bytes is one little-endian unsigned integer. The remap works on the whole
// element; a plane is then `bytes` bytes of it from byte `offset`. A nibble plane belongs to one-byte
// elements: two 4-bit values each, low half first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "remap.hpp"

namespace fewbits {

// The loops are private to each source that includes them: the same loops compiled for another instruction
// set (planes_avx2.cpp, planes_avx512.cpp) must not stand in for these.
namespace {

// The top 16 bits of an element, or its only 8, and how many bits lie below them.
template <typename T>
using Top = std::conditional_t<sizeof(T) == 1, uint8_t, uint16_t>;
template <typename T>
inline constexpr int kBelow = 8 * (sizeof(T) - sizeof(Top<T>));

template <typename T>
T with_top(T element, Top<T> top) {
  constexpr T low_bits = static_cast<T>((uint64_t{1} << kBelow<T>) - 1);
  return static_cast<T>((element & low_bits) | static_cast<T>(T{top} << kBelow<T>));
}

template <typename T>
void remap_forward(Remap remap, T* v, size_t n) {
  using Signed = std::make_signed_t<T>;
  constexpr int last = 8 * sizeof(T) - 1;
  if (remap == Remap::zigzag)
    for (size_t i = 0; i < n; ++i)
      v[i] = static_cast<T>(v[i] << 1) ^ static_cast<T>(static_cast<Signed>(v[i]) >> last);
  if (remap == Remap::sign_to_lsb)
    for (size_t i = 0; i < n; ++i) {
      const Top<T> high = static_cast<Top<T>>(v[i] >> kBelow<T>);
      const auto rotated = static_cast<Top<T>>(high << 1 | high >> (8 * sizeof(high) - 1));
      v[i] = with_top(v[i], rotated);
    }
}

template <typename T>
void remap_inverse(Remap remap, T* v, size_t n) {
  if (remap == Remap::zigzag)
    for (size_t i = 0; i < n; ++i)
      v[i] = static_cast<T>(v[i] >> 1) ^ static_cast<T>(T{0} - (v[i] & 1));
  if (remap == Remap::sign_to_lsb)
    for (size_t i = 0; i < n; ++i) {
      const Top<T> high = static_cast<Top<T>>(v[i] >> kBelow<T>);
      const auto rotated = static_cast<Top<T>>(high >> 1 | high << (8 * sizeof(high) - 1));
      v[i] = with_top(v[i], rotated);
    }
}

template <typename T, typename Value>
void cut_plane(const T* elements, size_t n, int offset, Value* values) {
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<Value>(elements[i] >> (8 * offset));
}

// Puts the plane into elements: the first plane of all overwrites them, the others add their bits.
template <typename T, typename Value>
void join_plane(const Value* values, size_t n, int offset, bool first, T* elements) {
  const auto placed = [&](size_t i) {
    return static_cast<T>(static_cast<T>(values[i]) << (8 * offset));
  };
  if (first)
    for (size_t i = 0; i < n; ++i) elements[i] = placed(i);
  else
    for (size_t i = 0; i < n; ++i) elements[i] |= placed(i);
}

inline void cut_nibbles(const uint8_t* elements, size_t n, uint8_t* values) {
  for (size_t i = 0; i < n; ++i) {
    values[2 * i] = elements[i] & 15;
    values[2 * i + 1] = elements[i] >> 4;
  }
}

inline void join_nibbles(const uint8_t* values, size_t n, uint8_t* elements) {
  for (size_t i = 0; i < n; ++i) {  // in pairs, which compilers vectorise well
    uint16_t pair;
    std::memcpy(&pair, values + 2 * i, 2);
    elements[i] = static_cast<uint8_t>((pair & 15) | (pair >> 4 & 0xF0));
  }
}

}  // namespace

// The loops that run on whole blocks, for one instruction set.
template <typename T>
struct PlaneLoops {
  void (*remap_forward)(Remap, T*, size_t);
  void (*remap_inverse)(Remap, T*, size_t);
  void (*join_bytes)(const uint8_t*, size_t, int, bool, T*);
  void (*join_pairs)(const uint16_t*, size_t, int, bool, T*);
  void (*join_nibbles)(const uint8_t*, size_t, uint8_t*);
};

namespace {
template <typename T>
inline constexpr PlaneLoops<T> kPlaneLoops = {remap_forward<T>, remap_inverse<T>,
                                              join_plane<T, uint8_t>, join_plane<T, uint16_t>,
                                              join_nibbles};
}  // namespace

template <typename T>
PlaneLoops<T> plane_loops_avx2();
template <typename T>
PlaneLoops<T> plane_loops_avx512();

}  // namespace fewbits
