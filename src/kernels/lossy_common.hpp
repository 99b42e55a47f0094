// What the kernels of lossy codecs share: floats in and out, codes to bytes, noise.
//
// The plain form of each codec, in PyTorch operations, is its specification
// (src/fewbits/lossy), and the bytes must be the same. So arithmetic is that of float32, operation by operation:
// the sources are compiled with -ffp-contract=off, and nothing here depends on the order of a sum.
//
// Everything is private to the source that includes it: the same loops are compiled again for other instruction
// sets, and must not stand in for each other. They are written for the compiler to vectorise: runs of
// one width, choices as `?:`, minima over integers.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace fewbits {

// Kinds of floats, numbered as in lossy/native.py.
enum class Float : int { f32 = 0, bf16 = 1, f16 = 2 };

namespace {

inline constexpr size_t kRuns = 8;

// The instruction sets have their own types for these; here they are two bytes and what they mean.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

// yes ? a : b, where the compiler would make a branch of that and not vectorise the loop.
template <typename T>
T chosen(bool yes, T a, T b) {
  return b ^ ((a ^ b) & static_cast<T>(-static_cast<T>(yes)));
}

[[maybe_unused]] inline float widen(float x) { return x; }

[[maybe_unused]] inline float widen(Bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// Subnormals become normal floats before anything is computed with them, as a processor may be told to take
// subnormal floats as zero.
[[maybe_unused]] inline float widen(F16 x) {
  constexpr uint32_t bias = (127 - 15) << 23, exponent = 0x7c00 << 13;
  const uint32_t magnitude = uint32_t{x.bits & 0x7fffu} << 13;
  const uint32_t normal = magnitude + bias + ((magnitude & exponent) == exponent ? bias : 0);
  const float subnormal = std::bit_cast<float>(magnitude + bias + (1u << 23)) -
                          std::bit_cast<float>(bias + (1u << 23));
  const uint32_t small = std::bit_cast<uint32_t>(subnormal);
  return std::bit_cast<float>(((magnitude & exponent) == 0 ? small : normal) |
                              (uint32_t{x.bits & 0x8000u} << 16));
}

// The bits of a float as a kind keeps it.
template <typename T>
auto narrow(float x);

template <>
[[maybe_unused]] inline auto narrow<float>(float x) {
  return x;
}

// To the nearest, ties to even; a NaN stays one.
template <>
[[maybe_unused]] inline auto narrow<Bf16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return static_cast<uint16_t>((nan ? 0x7fc00000 : rounded) >> 16);
}

template <>
[[maybe_unused]] inline auto narrow<F16>(float x) {
  constexpr uint32_t one_half = 126u << 23;  // its last place is that of the smallest subnormal
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffff;
  const uint32_t small =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + std::bit_cast<float>(one_half)) - one_half;
  const uint32_t normal = (magnitude - ((127u - 15) << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t large = 0x7c00 + (uint32_t{magnitude > 0x7f800000} << 9);
  const uint32_t result = chosen(magnitude >= 0x477ff000, large, chosen(magnitude < (113u << 23), small, normal));
  return static_cast<uint16_t>(result | ((bits >> 16) & 0x8000));
}

// The same as an element.
template <typename T>
T stored(float x) {
  return std::bit_cast<T>(narrow<T>(x));
}

// Calls work(zero of the type).
template <typename Work>
void with_float(Float kind, const Work& work) {
  switch (kind) {
    case Float::f32: return work(float{});
    case Float::bf16: return work(Bf16{});
    case Float::f16: return work(F16{});
  }
  throw std::invalid_argument("unknown kind of float");
}

// Signed integers in the order of the floats whose bits they are made of; NaNs lie beyond the infinities. A
// second time gives the bits back.
[[maybe_unused]] inline int32_t ordered(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

[[maybe_unused]] inline float from_ordered(int32_t key) {
  return std::bit_cast<float>(key ^ ((key >> 31) & 0x7fffffff));
}

// See lossy/noise.py.
[[maybe_unused]] inline uint32_t hash(uint32_t place, uint32_t key0, uint32_t key1) {
  uint32_t x = place ^ key0;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15) ^ key1) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// From 0 to below 1 in steps of 2^-16.
[[maybe_unused]] inline float fraction(uint32_t place, uint32_t key0, uint32_t key1) {
  return static_cast<float>(static_cast<int32_t>(hash(place, key0, key1) >> 16)) * (1.0f / 65536);
}

// Bytes that `count` codes take in one row; see lossy/bitpack.py for their order.
[[maybe_unused]] inline size_t row_bytes(size_t count, int bits) {
  return (count + kRuns - 1) / kRuns * static_cast<size_t>(bits);
}

// What code k puts into the byte of plane P: its bits begin so far above the byte's, or below where it began in
// the plane before.
template <int Bits, int P, int K>
uint8_t placed(uint8_t code) {
  constexpr int at = Bits * K - 8 * P;
  return static_cast<uint8_t>(at >= 0 ? code << std::max(at, 0) : code >> std::max(-at, 0));
}

template <int Bits, int P, int... I>
void pack_plane(const uint8_t* __restrict codes, size_t run, uint8_t* __restrict out,
                std::integer_sequence<int, I...>) {
  constexpr int first = 8 * P / Bits;
  for (size_t j = 0; j < run; ++j)
    out[j] = static_cast<uint8_t>((placed<Bits, P, first + I>(codes[(first + I) * run + j]) | ...));
}

// Packs 8 * run codes.
template <int Bits>
void pack_row(const uint8_t* codes, size_t run, uint8_t* out) {
  [&]<int... P>(std::integer_sequence<int, P...>) {
    (pack_plane<Bits, P>(codes, run, out + P * run,
                         std::make_integer_sequence<int, (8 * P + 7) / Bits - 8 * P / Bits + 1>{}),
     ...);
  }(std::make_integer_sequence<int, Bits>{});
}

template <int Bits, int K>
void unpack_run(const uint8_t* __restrict packed, size_t run, uint8_t* __restrict codes) {
  constexpr int plane = Bits * K / 8, shift = Bits * K % 8;
  constexpr bool split = shift + Bits > 8;
  for (size_t j = 0; j < run; ++j) {
    uint32_t code = packed[plane * run + j] >> shift;
    if constexpr (split) code |= static_cast<uint32_t>(packed[(plane + 1) * run + j]) << (8 - shift);
    codes[j] = static_cast<uint8_t>(code & ((1u << Bits) - 1));
  }
}

template <int Bits>
void unpack_row(const uint8_t* packed, size_t run, uint8_t* codes) {
  [&]<int... K>(std::integer_sequence<int, K...>) {
    (unpack_run<Bits, K>(packed, run, codes + K * run), ...);
  }(std::make_integer_sequence<int, int{kRuns}>{});
}

// Calls work(std::integral_constant<int, bits>) for 1 to 8 bits.
template <typename Work>
void with_bits(int bits, const Work& work) {
  switch (bits) {
    case 1: return work(std::integral_constant<int, 1>{});
    case 2: return work(std::integral_constant<int, 2>{});
    case 3: return work(std::integral_constant<int, 3>{});
    case 4: return work(std::integral_constant<int, 4>{});
    case 5: return work(std::integral_constant<int, 5>{});
    case 6: return work(std::integral_constant<int, 6>{});
    case 7: return work(std::integral_constant<int, 7>{});
    case 8: return work(std::integral_constant<int, 8>{});
    default: throw std::invalid_argument("codes have 1 to 8 bits");
  }
}

}  // namespace

}  // namespace fewbits
