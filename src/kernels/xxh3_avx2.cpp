// XXH3's loop in AVX2: as xxh3_avx512.cpp, with the eight accumulators in two registers.
#include "xxh3.hpp"

#if defined(__AVX2__)

#include <immintrin.h>

namespace fewbits {

namespace {

__m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

__m256i accumulate(__m256i acc, __m256i stripe, __m256i key) {
  const __m256i value = _mm256_xor_si256(stripe, key);
  const __m256i product = _mm256_mul_epu32(value, _mm256_srli_epi64(value, 32));
  return _mm256_add_epi64(acc, _mm256_add_epi64(product, _mm256_shuffle_epi32(stripe, 0x4E)));
}

__m256i scramble(__m256i acc, __m256i key) {
  const __m256i prime = _mm256_set1_epi32(static_cast<int>(kPrime32_1));
  const __m256i mixed =
      _mm256_xor_si256(_mm256_xor_si256(acc, _mm256_srli_epi64(acc, 47)), key);
  return _mm256_add_epi64(
      _mm256_mul_epu32(mixed, prime),
      _mm256_slli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime), 32));
}

}  // namespace

void xxh3_rounds_avx2(uint64_t* acc_io, const uint8_t* data, size_t rounds) {
  auto* const stored = reinterpret_cast<__m256i*>(acc_io);
  const uint8_t* const keys = kSecret.data();
  __m256i low = _mm256_load_si256(stored), high = _mm256_load_si256(stored + 1);
  for (; rounds > 0; --rounds, data += kRound) {
#pragma GCC unroll 16
    for (size_t n = 0; n < kStripesInRound; ++n) {
      low = accumulate(low, load(data + kStripe * n), load(keys + 8 * n));
      high = accumulate(high, load(data + kStripe * n + 32), load(keys + 8 * n + 32));
    }
    low = scramble(low, load(keys + 128));
    high = scramble(high, load(keys + 160));
  }
  _mm256_store_si256(stored, low);
  _mm256_store_si256(stored + 1, high);
}

}  // namespace fewbits

#endif
