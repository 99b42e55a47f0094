// The loops over masks, private to each source that includes them. Floats are taken as the integers they are, so
// that no setting of the processor makes a subnormal one zero.
#pragma once

#include <array>

#include "lossy_mask.hpp"

namespace fewbits {

namespace {

using Flags = std::array<uint8_t, kMaskRow>;

// The bits of a kind of float: its sign, minus infinity, and what stands for lost elements.
template <typename T>
struct BitsOf {
  using Int = uint16_t;
  static constexpr Int sign = 0x8000;
  static constexpr Int lowest = std::is_same_v<T, F16> ? 0xfc00 : 0xff80;
  static constexpr Int least = std::is_same_v<T, F16> ? 0x0001 : 0x0080;
};
template <>
struct BitsOf<float> {
  using Int = uint32_t;
  static constexpr Int sign = 0x80000000, lowest = 0xff800000, least = 0x00800000;
};

// Below zero, and no NaN.
template <typename T>
bool below_zero(typename BitsOf<T>::Int x) {
  using B = BitsOf<T>;
  return static_cast<typename B::Int>(x - B::sign - 1) < B::lowest - B::sign;
}

template <typename T>
bool flags_of(const typename BitsOf<T>::Int* __restrict x, size_t count, uint8_t* __restrict flags) {
  uint8_t below = 0;
  for (size_t i = 0; i < count; ++i) {
    flags[i] = static_cast<typename BitsOf<T>::Int>(x[i] << 1) != 0;
    below |= static_cast<uint8_t>(below_zero<T>(x[i]));
  }
  return below != 0;
}

template <typename T>
void keep(const typename BitsOf<T>::Int* __restrict x, const uint8_t* __restrict flags, size_t count,
          bool positive, typename BitsOf<T>::Int* __restrict out) {
  using Int = typename BitsOf<T>::Int;
  for (size_t i = 0; i < count; ++i) {
    const bool lost = (static_cast<Int>(x[i] << 1) == 0) | (positive & below_zero<T>(x[i]));
    out[i] = chosen<Int>(flags[i] != 0, chosen<Int>(lost, BitsOf<T>::least, x[i]), 0);
  }
}

// Calls work(first element, count, bits) for each row; the usual count as a constant.
template <typename Work>
void each_row(size_t n, size_t first, size_t last, const Work& work) {
  for (size_t row = first; row < last; ++row) {
    const size_t start = row * kMaskRow, count = std::min(kMaskRow, n - start);
    if (count == kMaskRow)
      work(start, std::integral_constant<size_t, kMaskRow>{}, row * kMaskRow / 8);
    else
      work(start, count, row * kMaskRow / 8);
  }
}

[[maybe_unused]] bool pack_rows(Float kind, const void* x, size_t n, size_t first, size_t last,
                                uint8_t* bits) {
  bool below = false;
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    each_row(n, first, last, [&](size_t start, auto count, size_t byte) {
      Flags flags;
      below |= flags_of<T>(static_cast<const typename BitsOf<T>::Int*>(x) + start, count, flags.data());
      const size_t run = (count + kRuns - 1) / kRuns;
      std::fill(flags.data() + count, flags.data() + run * kRuns, uint8_t{0});
      pack_row<1>(flags.data(), run, bits + byte);
    });
  });
  return below;
}

[[maybe_unused]] void apply_rows(Float kind, const void* x, const uint8_t* bits, size_t n, size_t first,
                                 size_t last, bool positive, void* out) {
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    using Int = typename BitsOf<T>::Int;
    each_row(n, first, last, [&](size_t start, auto count, size_t byte) {
      Flags flags;
      unpack_row<1>(bits + byte, (count + kRuns - 1) / kRuns, flags.data());
      keep<T>(static_cast<const Int*>(x) + start, flags.data(), count, positive,
              static_cast<Int*>(out) + start);
    });
  });
}

template <typename Int>
void spread(Int value, const uint8_t* __restrict flags, size_t count, Int* __restrict out) {
  for (size_t i = 0; i < count; ++i) out[i] = chosen<Int>(flags[i] != 0, value, 0);
}

[[maybe_unused]] void spread_rows(Float kind, const void* value, const uint8_t* bits, size_t n,
                                  size_t first, size_t last, void* out) {
  with_float(kind, [&](auto zero) {
    using Int = typename BitsOf<decltype(zero)>::Int;
    each_row(n, first, last, [&](size_t start, auto count, size_t byte) {
      Flags flags;
      unpack_row<1>(bits + byte, (count + kRuns - 1) / kRuns, flags.data());
      spread(*static_cast<const Int*>(value), flags.data(), count, static_cast<Int*>(out) + start);
    });
  });
}

}  // namespace

}  // namespace fewbits
