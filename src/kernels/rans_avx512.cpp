// The rANS loop in AVX-512: 16 lanes a register, tables in registers, no gathers.
//
// What equals what in rans.cpp's plain form: a code's bucket and the threshold decide between two
// packed entries (one permute each), which give count, position, offset bits and row; the row gives
// the start by one more permute. Lanes whose state fell below 2^16 take the next words in lane order:
// 16 words are loaded and `expand` deals them to those lanes.
#include "rans.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

#include <cstring>

namespace fewbits {

namespace {

struct Constants {
  __m512i thresholds, first, second, starts, code_mask, within_mask;
  __m128i shift, bucket_shift, verbatim_shift;
};

// The verbatim bits of 16 values from bit 16 * bits * k on: `bits` bytes for each 8 of them, dealt to
// bytes by a bit deposit.
inline __m512i load_verbatim(const uint8_t* from, int bits, uint64_t byte_mask) {
  uint64_t low, high;
  std::memcpy(&low, from, 8);
  std::memcpy(&high, from + bits, 8);
  return _mm512_cvtepu8_epi32(_mm_set_epi64x(static_cast<int64_t>(_pdep_u64(high, byte_mask)),
                                             static_cast<int64_t>(_pdep_u64(low, byte_mask))));
}

// One round of one register: decodes 16 values, returns them as 32-bit integers. `x` is renormalised
// and `words` advanced.
template <bool kVerbatim>
inline __m512i step(const Constants& c, __m512i& x, const uint8_t*& words, __m512i low_bits) {
  const __m512i field = _mm512_set1_epi32(0xFFF), one = _mm512_set1_epi32(1);
  const __m512i bucket = _mm512_srl_epi32(x, c.bucket_shift);  // a permute reads its low 4 bits only
  const __m512i within = _mm512_and_si512(x, c.within_mask);
  const __mmask16 upper =
      _mm512_cmpge_epu32_mask(within, _mm512_permutexvar_epi32(bucket, c.thresholds));
  const __m512i entry = _mm512_mask_permutexvar_epi32(
      _mm512_permutexvar_epi32(bucket, c.first), upper, bucket, c.second);
  const __m512i count = _mm512_and_si512(entry, field);
  const __m512i bias = _mm512_srli_epi32(entry, 12);
  const __m512i position = _mm512_and_si512(_mm512_add_epi32(bias, within), c.code_mask);
  const __m512i bits = _mm512_and_si512(_mm512_srli_epi32(entry, 24), _mm512_set1_epi32(15));
  x = _mm512_add_epi32(_mm512_mullo_epi32(count, _mm512_srl_epi32(x, c.shift)), position);
  __m512i value = _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), bits), x);
  x = _mm512_srlv_epi32(x, bits);
  if constexpr (kVerbatim)
    value = _mm512_or_si512(_mm512_sll_epi32(value, c.verbatim_shift), low_bits);
  value = _mm512_add_epi32(
      value, _mm512_permutexvar_epi32(_mm512_srli_epi32(entry, 28), c.starts));
  const __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_slli_epi32(one, 16));
  const __m512i next = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
  const __m512i dealt = _mm512_maskz_expand_epi32(low, next);
  x = _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), dealt);
  words += 2 * static_cast<size_t>(__builtin_popcount(low));
  return value;
}

template <typename Value, bool kVerbatim, int kRegisters>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  const auto load = [](const uint32_t* p) { return _mm512_loadu_si512(p); };
  const int shift = table.count_bits;
  const Constants c{load(table.thresholds),
                    load(table.first),
                    load(table.second),
                    load(table.starts),
                    _mm512_set1_epi32((1 << shift) - 1),
                    _mm512_set1_epi32((1 << (shift - 4)) - 1),
                    _mm_cvtsi32_si128(shift),
                    _mm_cvtsi32_si128(shift - 4),
                    _mm_cvtsi32_si128(table.verbatim_bits)};
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  const uint64_t byte_mask = 0x0101010101010101 * ((1u << bits) - 1);
  __m512i x[kRegisters];
  for (int r = 0; r < kRegisters; ++r) x[r] = load(states + 16 * r);
  constexpr size_t lanes = 16 * kRegisters;
  // A step loads 16 words and uses at most 16, so whatever the round leaves, its last step may read
  // up to 16 words past those used before it: lanes words in all.
  const uint8_t* words = words_io;
  size_t done = 0;
  for (; n - done >= lanes && static_cast<size_t>(words_end - words) >= 2 * lanes; done += lanes) {
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      const size_t at = done + 16 * r;
      __m512i low_bits = _mm512_setzero_si512();
      if constexpr (kVerbatim)
        low_bits = load_verbatim(verbatim + at / 8 * bits, table.verbatim_bits, byte_mask);
      const __m512i value = step<kVerbatim>(c, x[r], words, low_bits);
      if constexpr (sizeof(Value) == 1)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + at), _mm512_cvtepi32_epi8(value));
      else
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + at), _mm512_cvtepi32_epi16(value));
    }
  }
  for (int r = 0; r < kRegisters; ++r) _mm512_storeu_si512(states + 16 * r, x[r]);
  words_io = words;
  return done;
}

}  // namespace

template <typename Value>
size_t rans_rounds_avx512(const RansTable& table, uint32_t* states, size_t lanes,
                          const uint8_t*& words, const uint8_t* words_end,
                          const uint8_t* verbatim, Value* out, size_t n) {
  const auto run = [&]<int kRegisters>() {
    if constexpr (sizeof(Value) == 2)
      if (verbatim)
        return rounds<Value, true, kRegisters>(table, states, words, words_end, verbatim, out, n);
    return rounds<Value, false, kRegisters>(table, states, words, words_end, verbatim, out, n);
  };
  switch (lanes) {
    case 128: return run.template operator()<8>();
    case 64: return run.template operator()<4>();
    case 32: return run.template operator()<2>();
    default: return run.template operator()<1>();
  }
}

template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, uint8_t*, size_t);
template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, uint16_t*, size_t);

}  // namespace fewbits

#endif
