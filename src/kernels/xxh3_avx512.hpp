// One round of XXH3 in AVX-512, for the loops that eat what they have just made. The eight accumulators are one
// register. Adding each lane to its neighbour's accumulator is a shuffle of the stripe's 64-bit pairs; the product
// of 32-bit halves is one instruction.
#pragma once

#include "xxh3.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace fewbits {

namespace {

[[gnu::always_inline]] inline __m512i xxh3_round(__m512i acc, const uint8_t* data) {
  const __m512i prime = _mm512_set1_epi32(static_cast<int>(kPrime32_1));
#pragma GCC unroll 16
  for (size_t n = 0; n < kStripesInRound; ++n) {
    const __m512i stripe = _mm512_loadu_si512(data + kStripe * n);
    const __m512i value = _mm512_xor_si512(stripe, _mm512_loadu_si512(kSecret.data() + 8 * n));
    const __m512i product = _mm512_mul_epu32(value, _mm512_srli_epi64(value, 32));
    const __m512i neighbour = _mm512_shuffle_epi32(stripe, _MM_PERM_BADC);
    acc = _mm512_add_epi64(acc, _mm512_add_epi64(product, neighbour));
  }
  const __m512i mixed = _mm512_ternarylogic_epi64(
      acc, _mm512_srli_epi64(acc, 47), _mm512_loadu_si512(kSecret.data() + 128), 0x96);
  return _mm512_add_epi64(
      _mm512_mul_epu32(mixed, prime),
      _mm512_slli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(mixed, 32), prime), 32));
}

}  // namespace

}  // namespace fewbits

#endif
