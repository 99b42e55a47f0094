// Encoding with rANS in AVX-512: rows and offsets of 32 values a register, states of 16 lanes a register.
//
// Twists against the plain form in rans_encode.cpp:
//  * Nothing is looked up in memory: rows, counts and codes are permutes of registers. So a value without a row
//    does no harm on its way to being noticed at the end.
//  * Rows, and pieces of their codes (rans_push.hpp), are found by binary search, a permute and a comparison a
//    step: `at` holds the bits known so far, and the step's table has the bound that is at `at | half`.
//  * Division by the count is a multiplication by its reciprocal in single precision, all rounded towards
//    zero, so that the estimate is at most x / count. That is below 2^22 (there are 10 count bits or more);
//    with a and b the mantissas of x and of the reciprocal, in [1, 2), the three roundings together take less
//    than (a + b + 1) / 4 if a * b < 2, else less than (a + b + 2) / 8: less than 1 either way. So the
//    truncated estimate is the quotient or one less, and the rest tells which.
#include "rans.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

#include <algorithm>
#include <array>

namespace fewbits {

namespace {

constexpr int kTowardsZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

inline __m512i set1(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }

// A sorted column of 16-bit bounds, one table for each step of the search.
template <int kEntries>
struct Search {
  __m512i middle, steps[4];

  explicit Search(const uint16_t* bounds) : middle(set1(bounds[kEntries / 2])) {
    alignas(64) uint16_t step[32];
    for (int s = 0, half = kEntries / 4; half; half /= 2, ++s) {
      for (int at = 0; at < 32; ++at) step[at] = bounds[(at | half) % kEntries];
      steps[s] = _mm512_load_si512(step);
    }
  }

  // The number of the last entry below each value, or 0; 32 values a register, the registers in step.
  template <int kVectors>
  void find(const __m512i (&value)[kVectors], __m512i (&at)[kVectors]) const {
    for (int i = 0; i < kVectors; ++i)
      at[i] = _mm512_maskz_set1_epi16(_mm512_cmpgt_epu16_mask(value[i], middle), kEntries / 2);
#pragma GCC unroll 4
    for (int s = 0, half = kEntries / 4; half; half /= 2, ++s) {
      for (int i = 0; i < kVectors; ++i) {
        const __mmask32 above =
            _mm512_cmpgt_epu16_mask(value[i], _mm512_permutexvar_epi16(at[i], steps[s]));
        at[i] = _mm512_mask_add_epi16(at[i], above, at[i], set1(half));
      }
    }
  }
};

inline __m512i column(const uint16_t* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline __m512i load(const uint8_t* p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline __m512i load(const uint16_t* p) { return _mm512_loadu_si512(p); }

// Writes the low `bits` bits (1 to 8) of 32 offsets as 4 * bits bytes, and no byte more.
inline void store_verbatim(uint8_t* to, __m512i offsets, int bits) {
  const __m256i bytes = _mm512_cvtepi16_epi8(offsets);
  if (bits == 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
    return;
  }
  // Neighbours join, in 16 bits, in 32, in 64; then the bytes that are used move together.
  const __m256i kept = _mm256_and_si256(bytes, _mm256_set1_epi8(static_cast<char>((1 << bits) - 1)));
  const __m256i pairs = _mm256_maddubs_epi16(
      _mm256_set1_epi16(static_cast<short>(1 | 1 << (8 + bits))), kept);
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 1 << (16 + 2 * bits)));
  const __m256i low = _mm256_set1_epi64x((int64_t{1} << 4 * bits) - 1);
  const __m256i high = _mm256_srl_epi64(fours, _mm_cvtsi32_si128(32 - 4 * bits));
  const __m256i eights = _mm256_or_si256(_mm256_and_si256(fours, low), _mm256_andnot_si256(low, high));
  const __m128i iota = _mm_set_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m128i second = _mm_cmpgt_epi8(iota, _mm_set1_epi8(static_cast<char>(bits - 1)));
  const __m128i together = _mm_add_epi8(
      iota, _mm_and_si128(second, _mm_set1_epi8(static_cast<char>(8 - bits))));
  const auto used = static_cast<__mmask16>((1u << 2 * bits) - 1);
  const __m256i packed = _mm256_shuffle_epi8(eights, _mm256_broadcastsi128_si256(together));
  _mm_mask_storeu_epi8(to, used, _mm256_castsi256_si128(packed));
  _mm_mask_storeu_epi8(to + 2 * bits, used, _mm256_extracti128_si256(packed, 1));
}

// Rows and offsets of values. A symbol is a row and 16 times what of the offset goes into the state.
class Splitter {
 public:
  Splitter(const PushColumns& columns, int verbatim_bits)
      : rows_(columns.row_before),
        base_(column(columns.base)),
        reach_(column(columns.reach)),
        verbatim_bits_(verbatim_bits) {}

  // kVectors * 32 symbols; writes the values' verbatim bits.
  template <int kVectors, typename Value>
  void split(const Value* values, uint16_t* symbols, uint8_t* verbatim) {
    __m512i value[kVectors], row[kVectors];
    for (int i = 0; i < kVectors; ++i) value[i] = load(values + 32 * i);
    rows_.find(value, row);
    for (int i = 0; i < kVectors; ++i) {
      __m512i offset = _mm512_sub_epi16(value[i], _mm512_permutexvar_epi16(row[i], base_));
      beyond_ = _mm512_or_si512(
          beyond_, _mm512_subs_epu16(offset, _mm512_permutexvar_epi16(row[i], reach_)));
      if (sizeof(Value) == 2 && verbatim_bits_) {
        store_verbatim(verbatim + 4 * i * verbatim_bits_, offset, verbatim_bits_);
        offset = _mm512_srl_epi16(offset, _mm_cvtsi32_si128(verbatim_bits_));
      }
      _mm512_store_si512(symbols + 32 * i,
                         _mm512_or_si512(row[i], _mm512_slli_epi16(offset, 4)));
    }
  }

  // Whether one of the values had no row.
  bool wrong() const { return _mm512_test_epi16_mask(beyond_, beyond_) != 0; }

 private:
  Search<16> rows_;
  __m512i base_, reach_;
  int verbatim_bits_;
  __m512i beyond_ = _mm512_setzero_si512();
};

// From entry n on: the indices that bring the first n of 16 words behind all others.
constexpr auto kToTop = [] {
  std::array<uint16_t, 32> indices{};
  for (size_t i = 0; i < indices.size(); ++i) indices[i] = i % 16;
  return indices;
}();

class Pusher {
 public:
  Pusher(const PushColumns& columns, int count_bits, uint16_t* words)
      : pieces_(columns.piece_before),
        shifts_(_mm512_loadu_si512(columns.piece_shift)),
        count_(_mm512_loadu_si512(columns.count)),
        limit_(_mm512_loadu_si512(columns.limit)),
        state_bits_(_mm512_loadu_si512(columns.state_bits)),
        first_code_(_mm512_loadu_si512(columns.first_code)),
        reciprocal_(_mm512_loadu_ps(columns.reciprocal)),
        count_bits_(_mm_cvtsi32_si128(count_bits)),
        words_(words) {}

  uint16_t* words() const { return words_; }

  // Pushes 16 symbols but for the code, which is added later: what is here is the codes' indices.
  void push(const uint16_t* symbols, uint32_t* states, uint32_t* indices) {
    const __m512i symbol = _mm512_cvtepu16_epi32(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(symbols)));
    __m512i x = _mm512_load_si512(states);
    const __mmask16 sheds =
        _mm512_cmpge_epu32_mask(x, _mm512_permutexvar_epi32(symbol, limit_));
    const auto shed = static_cast<unsigned>(__builtin_popcount(sheds));
    // To the top of 16 words, so that what is written below them does no harm: storing under a mask is slow.
    const __m256i moved = _mm256_permutexvar_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kToTop.data() + shed)),
        _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(sheds, x)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words_ - 16), moved);
    words_ -= shed;
    x = _mm512_mask_srli_epi32(x, sheds, x, 16);
    x = _mm512_sllv_epi32(x, _mm512_permutexvar_epi32(symbol, state_bits_));
    x = _mm512_or_si512(x, _mm512_srli_epi32(symbol, 4));
    const __m512i count = _mm512_permutexvar_epi32(symbol, count_);
    __m512i quotient = _mm512_cvttps_epu32(
        _mm512_mul_round_ps(_mm512_cvt_roundepu32_ps(x, kTowardsZero),
                            _mm512_permutexvar_ps(symbol, reciprocal_), kTowardsZero));
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, count));
    const __mmask16 under = _mm512_cmpge_epu32_mask(rest, count);
    quotient = _mm512_mask_add_epi32(quotient, under, quotient, _mm512_set1_epi32(1));
    rest = _mm512_mask_sub_epi32(rest, under, rest, count);
    _mm512_store_si512(states, _mm512_sll_epi32(quotient, count_bits_));
    _mm512_store_si512(indices,
                       _mm512_add_epi32(rest, _mm512_permutexvar_epi32(symbol, first_code_)));
  }

  // Adds the codes at kVectors * 32 indices to as many states. Two indices share a lane of the search.
  template <int kVectors>
  void add_codes(const uint32_t* indices, uint32_t* states) const {
    __m512i index[kVectors], piece[kVectors];
    for (int i = 0; i < kVectors; ++i)
      index[i] = _mm512_or_si512(
          _mm512_load_si512(indices + 32 * i),
          _mm512_slli_epi32(_mm512_load_si512(indices + 32 * i + 16), 16));
    pieces_.find(index, piece);
    for (int i = 0; i < kVectors; ++i) {
      const __m512i code =
          _mm512_add_epi16(index[i], _mm512_permutexvar_epi16(piece[i], shifts_));
      uint32_t *const low = states + 32 * i, *const high = low + 16;
      _mm512_store_si512(low, _mm512_add_epi32(_mm512_load_si512(low),
                                               _mm512_and_si512(code, _mm512_set1_epi32(0xFFFF))));
      _mm512_store_si512(high,
                         _mm512_add_epi32(_mm512_load_si512(high), _mm512_srli_epi32(code, 16)));
    }
  }

 private:
  Search<32> pieces_;
  __m512i shifts_, count_, limit_, state_bits_, first_code_;
  __m512 reciprocal_;
  __m128i count_bits_;
  uint16_t* words_;
};

// Three loops over the lanes in place of one keep their chains short, so that many overlap. kVectors is how
// many registers a search has in step; a round is that long, or 16 lanes are two rounds of one.
template <int kVectors, typename Value>
bool push(const RansTable& table, const PushColumns& columns, const Value* values, size_t n,
          size_t lanes, uint32_t* states, uint16_t*& words, uint8_t* verbatim) {
  Splitter splitter(columns, table.verbatim_bits);
  Pusher pusher(columns, table.count_bits, words);
  alignas(64) uint16_t symbols[kMaxLanes];
  alignas(64) uint32_t indices[kMaxLanes] = {}, held[kMaxLanes] = {};
  std::copy_n(states, lanes, held);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  constexpr size_t stride = 32 * kVectors;
  const size_t step = std::max(lanes, stride);
  for (size_t at = n; at > 0;) {
    at -= step;
    for (size_t i = 0; i < step; i += stride)
      splitter.template split<kVectors>(values + at + i, symbols + i,
                                        verbatim + (at + i) / 8 * bits);
    for (size_t round = step; round > 0;) {
      round -= lanes;
      for (size_t lane = lanes; lane > 0;) {
        lane -= 16;
        pusher.push(symbols + round + lane, held + lane, indices + lane);
      }
      for (size_t lane = 0; lane < lanes; lane += stride)
        pusher.add_codes<kVectors>(indices + lane, held + lane);
    }
  }
  std::copy_n(held, lanes, states);
  words = pusher.words();
  return !splitter.wrong();
}

}  // namespace

template <typename Value>
bool rans_push_avx512(const RansTable& table, const PushColumns& columns, const Value* values,
                      size_t n, size_t lanes, uint32_t* states, uint16_t*& words,
                      uint8_t* verbatim) {
  const auto chosen = lanes >= 128 ? push<4, Value> : push<1, Value>;
  return chosen(table, columns, values, n, lanes, states, words, verbatim);
}

template bool rans_push_avx512(const RansTable&, const PushColumns&, const uint8_t*, size_t, size_t,
                               uint32_t*, uint16_t*&, uint8_t*);
template bool rans_push_avx512(const RansTable&, const PushColumns&, const uint16_t*, size_t, size_t,
                               uint32_t*, uint16_t*&, uint8_t*);

}  // namespace fewbits

#endif
