// Encoding with rANS in AVX-512: 16 lanes a register.
//
// Twists against the plain form in rans_encode.cpp:
//  * Values go last first, so a register holds its lanes in reverse: what `compress` packs together is then
//    already in the order in which the plain form sheds words.
//  * The row of a value is found by four steps of a binary search over the row starts, a permute each.
//  * Division by the count is a multiplication by its reciprocal in single precision. The quotient is below
//    2^22 (count bits are 10 or more) and the estimate off by at most 3 * 2^-24 of it, so truncated it is off
//    by at most one, and one correction either way makes it exact.
#include "rans.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace fewbits {

namespace {

struct Columns {
  __m512i start, count, limit, state_bits, first_code, reach;
  __m512 reciprocal;
};

// The number of the last row that starts at or below each value (0 if none does; its reach then fails).
inline __m512i find_rows(const Columns& c, __m512i value) {
  __m512i row = _mm512_setzero_si512();
  for (int half = 8; half; half /= 2) {
    const __m512i middle = _mm512_or_si512(row, _mm512_set1_epi32(half));
    const __mmask16 above =
        _mm512_cmpge_epu32_mask(value, _mm512_permutexvar_epi32(middle, c.start));
    row = _mm512_mask_mov_epi32(row, above, middle);
  }
  return row;
}

inline __m512i divide(__m512i x, __m512i count, __m512 reciprocal, __m512i& rest) {
  __m512i quotient = _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), reciprocal));
  rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, count));
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 over = _mm512_cmplt_epi32_mask(rest, _mm512_setzero_si512());
  quotient = _mm512_mask_sub_epi32(quotient, over, quotient, one);
  rest = _mm512_mask_add_epi32(rest, over, rest, count);
  const __mmask16 under = _mm512_cmpge_epi32_mask(rest, count);
  quotient = _mm512_mask_add_epi32(quotient, under, quotient, one);
  rest = _mm512_mask_sub_epi32(rest, under, rest, count);
  return quotient;
}

// Writes the low `bits` bits of 16 offsets, held in reverse, as 2 * bits bytes.
inline void store_verbatim(uint8_t* to, __m512i offset, int bits) {
  const __m128i reversed = _mm512_cvtepi32_epi8(offset);
  const __m128i bytes = _mm_shuffle_epi8(
      reversed, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const uint64_t mask = 0x0101010101010101u * ((1u << bits) - 1);
  const uint64_t low = _pext_u64(static_cast<uint64_t>(_mm_cvtsi128_si64(bytes)), mask);
  const uint64_t high = _pext_u64(static_cast<uint64_t>(_mm_extract_epi64(bytes, 1)), mask);
  const auto both = static_cast<unsigned __int128>(high) << (8 * bits) | low;
  const __m128i packed = _mm_set_epi64x(static_cast<int64_t>(both >> 64),
                                        static_cast<int64_t>(both));
  // Exactly these bytes: those behind them were written before.
  _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1u << (2 * bits)) - 1), packed);
}

inline __m512i load_reversed(const uint8_t* p) {
  const __m512i reverse =
      _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_epi32(
      reverse, _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

inline __m512i load_reversed(const uint16_t* p) {
  const __m512i reverse =
      _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_epi32(
      reverse, _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}

}  // namespace

template <typename Value>
bool rans_push_avx512(const RansTable& table, const Value* values, size_t n, size_t lanes,
                      uint32_t* states, uint16_t* words, size_t& shed, uint8_t* verbatim) {
  const auto& rows = table.push_rows;
  const Columns c{_mm512_loadu_si512(rows.start),      _mm512_loadu_si512(rows.count),
                  _mm512_loadu_si512(rows.limit),      _mm512_loadu_si512(rows.state_bits),
                  _mm512_loadu_si512(rows.first_code), _mm512_loadu_si512(rows.reach),
                  _mm512_loadu_ps(rows.reciprocal)};
  const __m512i reverse =
      _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m128i count_bits = _mm_cvtsi32_si128(table.count_bits);
  const __m128i verbatim_bits = _mm_cvtsi32_si128(table.verbatim_bits);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  alignas(64) uint32_t held[kMaxLanes];  // lanes in reverse within each 16
  for (size_t at = 0; at < lanes; at += 16)
    _mm512_store_si512(held + at, _mm512_permutexvar_epi32(reverse, _mm512_loadu_si512(states + at)));
  __mmask16 wrong = 0;
  for (size_t at = n; at > 0;) {
    at -= 16;
    const __m512i value = load_reversed(values + at);
    const __m512i row = find_rows(c, value);
    __m512i offset = _mm512_sub_epi32(value, _mm512_permutexvar_epi32(row, c.start));
    wrong |= _mm512_cmpgt_epi32_mask(offset, _mm512_permutexvar_epi32(row, c.reach)) |
             _mm512_cmplt_epi32_mask(offset, _mm512_setzero_si512());
    if (bits) {
      store_verbatim(verbatim + at / 8 * bits, offset, table.verbatim_bits);
      offset = _mm512_srl_epi32(offset, verbatim_bits);
    }
    uint32_t* const state = held + at % lanes;
    __m512i x = _mm512_load_si512(state);
    const __mmask16 sheds =
        _mm512_cmpge_epu32_mask(x, _mm512_permutexvar_epi32(row, c.limit));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + shed),
                        _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(sheds, x)));
    shed += static_cast<size_t>(__builtin_popcount(sheds));
    x = _mm512_mask_srli_epi32(x, sheds, x, 16);
    x = _mm512_or_si512(_mm512_sllv_epi32(x, _mm512_permutexvar_epi32(row, c.state_bits)), offset);
    __m512i rest;
    const __m512i quotient = divide(x, _mm512_permutexvar_epi32(row, c.count),
                                    _mm512_permutexvar_ps(row, c.reciprocal), rest);
    const __m512i index = _mm512_add_epi32(rest, _mm512_permutexvar_epi32(row, c.first_code));
    // A value without a row has a count of 0 and would look anywhere; it looks at entry 0.
    const __m512i safe = _mm512_min_epu32(
        index, _mm512_set1_epi32((1 << table.count_bits) - 1));
    const __m512i code = _mm512_and_si512(_mm512_i32gather_epi32(safe, table.code_of.data(), 2),
                                          _mm512_set1_epi32(0xFFFF));
    _mm512_store_si512(state, _mm512_add_epi32(_mm512_sll_epi32(quotient, count_bits), code));
  }
  for (size_t at = 0; at < lanes; at += 16)
    _mm512_storeu_si512(states + at, _mm512_permutexvar_epi32(reverse, _mm512_load_si512(held + at)));
  return wrong == 0;
}

template bool rans_push_avx512(const RansTable&, const uint8_t*, size_t, size_t, uint32_t*,
                               uint16_t*, size_t&, uint8_t*);
template bool rans_push_avx512(const RansTable&, const uint16_t*, size_t, size_t, uint32_t*,
                               uint16_t*, size_t&, uint8_t*);

}  // namespace fewbits

#endif
