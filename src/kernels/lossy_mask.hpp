// Which elements are not zero, one bit each; the plain form and specification is src/fewbits/lossy/mask.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lossy_common.hpp"

namespace fewbits {

// Bits of n elements; returns whether one of them is below zero.
bool pack_mask(Float kind, const void* x, size_t n, uint8_t* bits, int threads);

// out = x where the bit is set, 0 elsewhere. Where it is set and x is zero, or below it although `positive`, out
// is the smallest positive number that every processor tells from zero.
void apply_mask(Float kind, const void* x, const uint8_t* bits, size_t n, bool positive, void* out, int threads);

// out = the element at `value` where the bit is set, 0 elsewhere.
void spread_mask(Float kind, const void* value, const uint8_t* bits, size_t n, void* out, int threads);

// The same for rows [first, last) on one thread, as each instruction set has it.
struct MaskLoops {
  bool (*pack)(Float kind, const void* x, size_t n, size_t first, size_t last, uint8_t* bits);
  void (*apply)(Float kind, const void* x, const uint8_t* bits, size_t n, size_t first, size_t last,
                bool positive, void* out);
  void (*spread)(Float kind, const void* value, const uint8_t* bits, size_t n, size_t first, size_t last,
                 void* out);
};

MaskLoops mask_loops_avx2();
MaskLoops mask_loops_avx512();

// Elements of a row of bits (`GROUP` in mask.py).
inline constexpr size_t kMaskRow = 256;

}  // namespace fewbits
