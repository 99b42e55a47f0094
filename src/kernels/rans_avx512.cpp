// The rANS loop in AVX-512: 16 lanes a register, tables in registers, no gathers.
//
// What equals what in rans_decode.cpp's plain form: a code's bucket and the threshold decide between two
// packed entries (one permute each), which give count, position, offset bits and row; the row gives
// the start by one more permute. Lanes whose state fell below 2^16 take the next words in lane order:
// 16 words are loaded and `expand` deals them to those lanes.
//
// Where a register's words start depends on how many the one before took, so a round is one long chain
// of latencies: 256 lanes, 16 registers, keep the processor busy meanwhile (half as many: half the speed).
#include "rans.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace fewbits {

namespace {

struct Constants {
  __m512i thresholds, first, second, starts, code_mask, within_mask;
  __m512i verbatim_bytes, verbatim_shifts, verbatim_mask;
  __m128i shift, bucket_shift, verbatim_shift;
};

Constants constants_of(const RansTable& table) {
  const auto load = [](const uint32_t* p) { return _mm512_loadu_si512(p); };
  const int shift = table.count_bits, verbatim = table.verbatim_bits;
  // Value i of 16 has its verbatim bits from bit i * verbatim on, which two bytes hold.
  alignas(64) uint8_t bytes[64];
  alignas(64) uint32_t shifts[16];
  for (int i = 0; i < 16; ++i) {
    const int byte = i * verbatim / 8;
    shifts[i] = static_cast<uint32_t>(i * verbatim % 8);
    bytes[4 * i] = static_cast<uint8_t>(byte);
    bytes[4 * i + 1] = static_cast<uint8_t>(byte < 15 ? byte + 1 : 0x80);  // 0x80 gives zero
    bytes[4 * i + 2] = bytes[4 * i + 3] = 0x80;
  }
  return {load(table.thresholds),
          load(table.first),
          load(table.second),
          load(table.starts),
          _mm512_set1_epi32((1 << shift) - 1),
          _mm512_set1_epi32((1 << (shift - 4)) - 1),
          _mm512_load_si512(bytes),
          _mm512_load_si512(shifts),
          _mm512_set1_epi32((1 << verbatim) - 1),
          _mm_cvtsi32_si128(shift),
          _mm_cvtsi32_si128(shift - 4),
          _mm_cvtsi32_si128(verbatim)};
}

// The verbatim bits of 16 values: their bytes broadcast, two dealt to each lane, shifted into place.
inline __m512i load_verbatim(const Constants& c, const uint8_t* from) {
  const __m512i bytes = _mm512_broadcast_i32x4(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m512i pairs = _mm512_shuffle_epi8(bytes, c.verbatim_bytes);
  return _mm512_and_si512(_mm512_srlv_epi32(pairs, c.verbatim_shifts), c.verbatim_mask);
}

// One round of one register: decodes 16 values, returns them in the low bits of 32. `x` is renormalised
// and `words` advanced.
template <bool kVerbatim, bool kCompact>
inline __m512i step(const Constants& c, __m512i& x, const uint8_t*& words,
                    const uint8_t* verbatim) {
  const __m512i bucket = _mm512_srl_epi32(x, c.bucket_shift);  // a permute reads its low 4 bits only
  const __m512i within = _mm512_and_si512(x, c.within_mask);
  // The choice goes by arithmetic: a mask register on the way would cost more time than it saves work.
  const __m512i threshold = _mm512_permutexvar_epi32(bucket, c.thresholds);
  const __m512i below = _mm512_srai_epi32(_mm512_sub_epi32(within, threshold), 31);
  const __m512i entry = _mm512_ternarylogic_epi32(below, _mm512_permutexvar_epi32(bucket, c.first),
                                                  _mm512_permutexvar_epi32(bucket, c.second), 0xCA);
  __m512i count, bits, start, bias;
  if constexpr (kCompact) {
    count = _mm512_srli_epi32(entry, 22);
    bits = _mm512_and_si512(entry, _mm512_set1_epi32(15));
    start = _mm512_srli_epi32(entry, 4);  // what lies above its 8 bits is dropped with the value's
    bias = _mm512_srli_epi32(entry, 12);
  } else {
    count = _mm512_and_si512(_mm512_srli_epi32(entry, 16), _mm512_set1_epi32(0xFFF));
    bits = _mm512_srli_epi32(entry, 28);
    start = _mm512_permutexvar_epi32(entry, c.starts);
    bias = _mm512_srli_epi32(entry, 4);
  }
  const __m512i position = _mm512_and_si512(_mm512_add_epi32(bias, within), c.code_mask);
  x = _mm512_add_epi32(_mm512_mullo_epi32(count, _mm512_srl_epi32(x, c.shift)), position);
  __m512i offset = _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), bits), x);
  x = _mm512_srlv_epi32(x, bits);
  if constexpr (kVerbatim)
    offset = _mm512_or_si512(_mm512_sll_epi32(offset, c.verbatim_shift),
                             load_verbatim(c, verbatim));
  const __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(1 << 16));
  const __m512i next = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
  const __m512i dealt = _mm512_maskz_expand_epi32(low, next);
  x = _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), dealt);
  words += 2 * static_cast<size_t>(__builtin_popcount(low));
  return _mm512_add_epi32(start, offset);
}

template <typename Value, bool kVerbatim, bool kCompact, int kRegisters>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  const Constants c = constants_of(table);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  __m512i x[kRegisters];
  for (int r = 0; r < kRegisters; ++r) x[r] = _mm512_loadu_si512(states + 16 * r);
  constexpr size_t lanes = 16 * kRegisters;
  // A step loads 16 words and uses at most 16, so whatever the round leaves, its last step may read
  // up to 16 words past those used before it: lanes words in all.
  const uint8_t* words = words_io;
  size_t done = 0;
  for (; n - done >= lanes && static_cast<size_t>(words_end - words) >= 2 * lanes; done += lanes) {
#pragma GCC unroll 16
    for (int r = 0; r < kRegisters; ++r) {
      const size_t at = done + 16 * r;
      const __m512i value =
          step<kVerbatim, kCompact>(c, x[r], words, verbatim + (kVerbatim ? at / 8 * bits : 0));
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
    if constexpr (sizeof(Value) == 2) {
      const auto chosen = verbatim ? rounds<Value, true, false, kRegisters>
                                   : rounds<Value, false, false, kRegisters>;
      return chosen(table, states, words, words_end, verbatim, out, n);
    } else {
      const auto chosen = table.compact ? rounds<Value, false, true, kRegisters>
                                        : rounds<Value, false, false, kRegisters>;
      return chosen(table, states, words, words_end, verbatim, out, n);
    }
  };
  switch (lanes) {
    case 256: return run.template operator()<16>();
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
