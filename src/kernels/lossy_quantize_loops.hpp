// The loops of group quantization, private to each source that includes them. A group goes through four
// short loops while it is in the first-level cache: floats, range, codes, bytes.
#pragma once

#include <limits>
#include <vector>

#include "lossy_quantize.hpp"

namespace fewbits {

namespace {

constexpr size_t kUsualGroup = 256;
constexpr float kTiny = 0x1p-126f;

struct Grid {
  float low, step;
  bool held() const { return step == step; }
};

struct Range {
  int32_t low, high;  // as ordered() gives them
};

// What is not finite lies at the ends: so the range tells.
template <bool Zeros>
Range range_of(const float* x, size_t n) {
  int32_t low = std::numeric_limits<int32_t>::max(), high = std::numeric_limits<int32_t>::min();
  for (size_t i = 0; i < n; ++i) {
    const int32_t key = ordered(x[i]);
    if constexpr (Zeros) {
      const bool zero = (std::bit_cast<uint32_t>(x[i]) << 1) == 0;
      low = std::min(low, chosen(zero, std::numeric_limits<int32_t>::max(), key));
      high = std::max(high, chosen(zero, std::numeric_limits<int32_t>::min(), key));
    } else {
      low = std::min(low, key);
      high = std::max(high, key);
    }
  }
  return {low, high};
}

[[maybe_unused]] inline bool finite(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7f800000) != 0x7f800000;
}

[[maybe_unused]] inline float round_down(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  uint32_t cut = bits & 0xffff0000;
  if (bits >> 31 && cut != bits) cut += 0x10000;
  return std::bit_cast<float>(cut == 0x80000000 ? 0 : cut);
}

[[maybe_unused]] inline float round_up(float x) {
  const uint32_t bits = ((std::bit_cast<uint32_t>(x) & 0x7fffffff) + 0xffff) & 0xffff0000;
  return std::bit_cast<float>(bits == 0 ? 0 : std::max(bits, 0x00800000u));
}

[[maybe_unused]] inline Grid grid_of(const Quantizer& q, Range range) {
  constexpr Grid lost{0.0f, std::numeric_limits<float>::quiet_NaN()};
  if (range.low > range.high) return {0.0f, 0.0f};  // nothing but zeros
  float low = from_ordered(range.low), high = from_ordered(range.high);
  if (!finite(low) || !finite(high)) return lost;
  float width = high - low, step = 0.0f;
  if (q.inverse_steps == 0.0f) {
    low = round_down(low * 0.5f + high * 0.5f);
  } else {
    low = round_down(low);
    width = high - low;
    if (finite(width)) step = round_up(width * q.inverse_steps);
  }
  return finite(low) && finite(width) && finite(step) ? Grid{low, step} : lost;
}

template <bool Zeros, bool Stochastic>
void codes_of(const Quantizer& q, Grid grid, const float* __restrict x, size_t n, size_t first,
              uint8_t* __restrict codes) {
  const float low = grid.low, inverse = grid.step > 0.0f ? 1.0f / grid.step : 0.0f;
  const float last = static_cast<float>((1 << q.bits) - (Zeros ? 2 : 1));
  const bool held = grid.held();
  const auto place = static_cast<uint32_t>(first);
  for (size_t i = 0; i < n; ++i) {
    float at = (x[i] - low) * inverse;
    at += Stochastic ? fraction(place + static_cast<uint32_t>(i), q.key0, q.key1) : 0.5f;
    at = held ? std::min(at, last) : 0.0f;
    auto code = static_cast<int32_t>(at);
    if constexpr (Zeros) code = (std::bit_cast<uint32_t>(x[i]) << 1) == 0 ? 0 : code + 1;
    codes[i] = static_cast<uint8_t>(code);
  }
}

template <typename T, bool Zeros>
void values_of(Grid grid, const uint8_t* __restrict codes, size_t n, T* x) {
  // A 16-bit float is stored as the integer it is.
  auto* const __restrict out = reinterpret_cast<decltype(narrow<T>(0.0f))*>(x);
  constexpr bool half = std::is_same_v<T, F16>;
  constexpr float largest = half                        ? 65504.0f
                            : std::is_same_v<T, Bf16> ? 0x1.fep127f
                                                      : std::numeric_limits<float>::max();
  constexpr float least = half ? 0x1p-24f : kTiny;
  for (size_t i = 0; i < n; ++i) {
    float value = grid.low + static_cast<float>(int32_t{codes[i]} - (Zeros ? 1 : 0)) * grid.step;
    value = value > largest ? largest : value;  // a NaN is not, and stays
    value = value < -largest ? -largest : value;
    if constexpr (Zeros) {
      // In half precision, what is below half of the smallest number would become zero.
      const float magnitude = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0x7fffffff);
      const bool vanishes = half ? magnitude <= 0x1p-25f : magnitude == 0.0f;
      value = codes[i] == 0 ? 0.0f : vanishes ? least : value;
    }
    out[i] = narrow<T>(value);
  }
}

template <typename T>
void encode_group(const Quantizer& q, const T* x, size_t n, size_t first, std::vector<float>& floats,
                  std::vector<uint8_t>& codes, uint16_t* grid) {
  const float* wide = floats.data();
  if constexpr (std::is_same_v<T, float>) wide = x;
  else
    for (size_t i = 0; i < n; ++i) floats[i] = widen(x[i]);
  const Grid found = grid_of(q, q.zeros ? range_of<true>(wide, n) : range_of<false>(wide, n));
  grid[0] = static_cast<uint16_t>(std::bit_cast<uint32_t>(found.low) >> 16);
  grid[1] = found.held() ? static_cast<uint16_t>(std::bit_cast<uint32_t>(found.step) >> 16) : 0x7fc0;
  const auto loop = q.zeros ? (q.stochastic ? codes_of<true, true> : codes_of<true, false>)
                              : (q.stochastic ? codes_of<false, true> : codes_of<false, false>);
  loop(q, found, wide, n, first, codes.data());
}

// Calls work(count of the group); the usual one as a constant, for loops without rests.
template <typename Work>
void with_count(size_t count, const Work& work) {
  if (count == kUsualGroup)
    work(std::integral_constant<size_t, kUsualGroup>{});
  else
    work(count);
}

[[maybe_unused]] void encode_groups(const Quantizer& q, Float kind, const void* x, size_t n, size_t first,
                                    size_t last, uint8_t* packed, uint16_t* grids) {
  std::vector<float> floats(q.group);
  std::vector<uint8_t> codes(q.group);
  const size_t bytes = row_bytes(q.group, q.bits);
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    with_bits(q.bits, [&](auto bits) {
      for (size_t g = first; g < last; ++g) {
        with_count(std::min(q.group, n - g * q.group), [&](auto count) {
          encode_group(q, static_cast<const T*>(x) + g * q.group, count, g * q.group, floats, codes,
                       grids + 2 * g);
          const size_t run = (count + kRuns - 1) / kRuns;
          std::fill(codes.data() + count, codes.data() + run * kRuns, uint8_t{0});
          pack_row<bits>(codes.data(), run, packed + g * bytes);
        });
      }
    });
  });
}

[[maybe_unused]] void decode_groups(const Quantizer& q, Float kind, const uint8_t* packed,
                                    const uint16_t* grids, size_t n, size_t first, size_t last, void* x) {
  std::vector<uint8_t> codes(q.group);
  const size_t bytes = row_bytes(q.group, q.bits);
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    with_bits(q.bits, [&](auto bits) {
      for (size_t g = first; g < last; ++g) {
        with_count(std::min(q.group, n - g * q.group), [&](auto count) {
          unpack_row<bits>(packed + g * bytes, (count + kRuns - 1) / kRuns, codes.data());
          const Grid grid{widen(Bf16{grids[2 * g]}), widen(Bf16{grids[2 * g + 1]})};
          const auto loop = q.zeros ? values_of<T, true> : values_of<T, false>;
          loop(grid, codes.data(), count, static_cast<T*>(x) + g * q.group);
        });
      }
    });
  });
}

}  // namespace

}  // namespace fewbits
