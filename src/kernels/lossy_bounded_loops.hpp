// The loops of error-bounded blocks, compiled once for each instruction set.
//
// Word p of a block holds bit p of its 32 numbers. So 8 numbers at a time, a byte each, are an 8 x 8 matrix of
// bits: one product moves a column of it into a byte (`column`), another spreads a byte over a column.
#pragma once

#include <algorithm>

#include "lossy_bounded.hpp"

namespace fewbits {

namespace {

enum Way : uint8_t { kAsIs = 0, kZigzag = 1, kDifference = 2, kVerbatim = 3 };

inline constexpr size_t kB = kBoundedBlock;
inline constexpr uint64_t kOnes = 0x0101010101010101;
inline constexpr float kLargest = 1073741824.0f;  // 2^30

// Bit p of each of 8 bytes, that of byte k as bit k.
[[maybe_unused]] inline uint32_t column(uint64_t bytes, int p) {
  return static_cast<uint32_t>((((bytes >> p) & kOnes) * 0x0102040810204080) >> 56);
}

// The other way: bit k of a byte as the lowest bit of byte k.
[[maybe_unused]] inline uint64_t spread(uint32_t byte) {
  return ((((byte & 255) * kOnes) & 0x8040201008040201) + 0x7f7f7f7f7f7f7f7f) >> 7 & kOnes;
}

[[maybe_unused]] inline uint64_t eight(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

// The words of a block whose numbers have so many bits.
template <typename U>
uint32_t* put_planes(const U* numbers, int bits, uint32_t* out) {
  uint8_t bytes[kB];
  for (int low = 0; low < bits; low += 8) {
    for (size_t i = 0; i < kB; ++i) bytes[i] = static_cast<uint8_t>(numbers[i] >> low);
    for (int p = 0; p < std::min(bits - low, 8); ++p)
      *out++ = column(eight(bytes), p) | column(eight(bytes + 8), p) << 8 |
               column(eight(bytes + 16), p) << 16 | column(eight(bytes + 24), p) << 24;
  }
  return out;
}

template <typename U>
void take_planes(const uint32_t* in, int bits, U* numbers) {
  std::fill(numbers, numbers + kB, U{0});
  for (int low = 0; low < bits; low += 8) {
    uint64_t bytes[kB / 8] = {};
    for (int p = 0; p < std::min(bits - low, 8); ++p, ++in)
      for (int k = 0; k < 4; ++k) bytes[k] |= spread(*in >> (8 * k)) << p;
    uint8_t flat[kB];
    std::memcpy(flat, bytes, kB);
    for (size_t i = 0; i < kB; ++i) numbers[i] = static_cast<U>(numbers[i] | U{flat[i]} << low);
  }
}

[[maybe_unused]] inline uint32_t zigzag(int32_t q) {
  return static_cast<uint32_t>(q) << 1 ^ static_cast<uint32_t>(q >> 31);
}

// The integers of a block, and whether each of them comes back within the bound.
template <typename T, bool Dither>
bool integers_of(const Bounder& b, const T* x, size_t place, int32_t* q) {
  uint32_t missed = 0;
  for (size_t i = 0; i < kB; ++i) {
    const float value = widen(x[i]);
    float at = value * b.inverse;
    at = at + (Dither ? fraction(static_cast<uint32_t>(place + i), b.key0, b.key1) : 0.5f);
    const bool held = at < kLargest && at > -kLargest;  // false for NaN
    at = held ? at : 0.0f;
    const auto cut = static_cast<int32_t>(at);
    const int32_t whole = cut - (static_cast<float>(cut) > at);  // floor, without its instruction
    const float error = value - widen(stored<T>(static_cast<float>(whole) * b.step));
    const bool within = error <= b.limit && -error <= b.limit;
    missed |= static_cast<uint32_t>(!held) | static_cast<uint32_t>(!within);
    q[i] = whole;
  }
  return missed == 0;
}

template <typename T>
uint32_t* encode_block(const Bounder& b, const T* x, size_t place, uint32_t* out, uint8_t& entry) {
  constexpr int element_bits = 8 * sizeof(T);
  int32_t padded[kB + 1] = {};  // what stands before the first is 0
  int32_t* const q = padded + 1;
  const bool held = b.dither ? integers_of<T, true>(b, x, place, q) : integers_of<T, false>(b, x, place, q);
  uint32_t all[3] = {};
  for (size_t i = 0; i < kB; ++i) {
    all[kAsIs] |= static_cast<uint32_t>(q[i]);
    all[kZigzag] |= zigzag(q[i]);
    all[kDifference] |= zigzag(q[i] - padded[i]);
  }
  int way = all[kAsIs] >> 31 ? kZigzag : kAsIs;
  for (int other = way + 1; other <= kDifference; ++other)
    if (std::bit_width(all[other]) < std::bit_width(all[way])) way = other;
  const int bits = std::bit_width(all[way]);
  if (!held || bits >= element_bits) {
    entry = kVerbatim << 6;
    using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t>;
    Bits own[kB];
    std::memcpy(own, x, sizeof own);
    return put_planes(own, element_bits, out);
  }
  entry = static_cast<uint8_t>(bits | way << 6);
  uint32_t numbers[kB];
  if (way == kAsIs)
    for (size_t i = 0; i < kB; ++i) numbers[i] = static_cast<uint32_t>(q[i]);
  else if (way == kZigzag)
    for (size_t i = 0; i < kB; ++i) numbers[i] = zigzag(q[i]);
  else
    for (size_t i = 0; i < kB; ++i) numbers[i] = zigzag(q[i] - padded[i]);
  return put_planes(numbers, bits, out);
}

template <typename T>
const uint32_t* decode_block(float step, const uint32_t* in, uint8_t entry, T* x) {
  const int way = entry >> 6, bits = way == kVerbatim ? int{8 * sizeof(T)} : entry & 63;
  if (way == kVerbatim) {
    std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t> own[kB];
    take_planes(in, bits, own);
    std::memcpy(x, own, sizeof own);
    return in + bits;
  }
  uint32_t numbers[kB];
  int32_t q[kB];
  take_planes(in, bits, numbers);
  for (size_t i = 0; i < kB; ++i)
    q[i] = static_cast<int32_t>(way == kAsIs ? numbers[i] : numbers[i] >> 1 ^ (0 - (numbers[i] & 1)));
  if (way == kDifference)
    for (size_t i = 1; i < kB; ++i)
      q[i] = static_cast<int32_t>(static_cast<uint32_t>(q[i]) + static_cast<uint32_t>(q[i - 1]));
  for (size_t i = 0; i < kB; ++i) x[i] = stored<T>(static_cast<float>(q[i]) * step);
  return in + bits;
}

[[maybe_unused]] size_t bounded_encode(const Bounder& b, Float kind, const void* x, size_t n, size_t first,
                                       size_t last, uint32_t* words, uint8_t* entries) {
  uint32_t* out = words;
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    const T* const elements = static_cast<const T*>(x);
    for (size_t block = first; block < last; ++block) {
      const size_t place = block * kB, count = std::min(kB, n - place);
      T rest[kB] = {};
      if (count < kB) std::copy_n(elements + place, count, rest);
      out = encode_block(b, count < kB ? rest : elements + place, place, out, entries[block]);
    }
  });
  return static_cast<size_t>(out - words);
}

[[maybe_unused]] void bounded_decode(float step, Float kind, const uint32_t* words, const uint8_t* entries,
                                     size_t n, size_t first, size_t last, void* x) {
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    T* const elements = static_cast<T*>(x);
    for (size_t block = first; block < last; ++block) {
      const size_t place = block * kB, count = std::min(kB, n - place);
      T rest[kB];
      words = decode_block(step, words, entries[block], count < kB ? rest : elements + place);
      if (count < kB) std::copy_n(rest, count, elements + place);
    }
  });
}

}  // namespace

}  // namespace fewbits
