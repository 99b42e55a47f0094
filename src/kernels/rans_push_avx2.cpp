// Encoding with rANS in AVX2: 8 lanes a register.
//
// As rans_push_avx512.cpp, with these substitutes:
//  * A look-up of 16 entries is two permutes and a blend. The tree of a search needs fewer: at step s only 2^s
//    bounds can be asked for, and 8 entries are one permute.
//  * The quotient is estimated in integers: d = (2^32 - 1) / count, rounded down, is at most 1 short of
//    2^32 / count, so x * d / 2^32 is at most x / count and less than 1 short of it: rounded down, it is the
//    quotient or one less.
//  * Codes are looked up in memory, one by one: there are more load ports than registers for all the pieces.
//    A value without a row may point anywhere, so indices are cut to the table.
//  * Shed words are moved together, at the end of a register, by a shuffle from a table.
#include "rans.hpp"

#if defined(__AVX2__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace fewbits {

namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline __m256i widen(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline __m256i widen(const uint16_t* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// 16 entries of 32 bits.
struct Column {
  __m256i low, high;

  template <typename T>
  explicit Column(const T (&column)[16]) {
    uint32_t wide[16];
    std::copy_n(column, 16, wide);
    low = load(wide);
    high = load(wide + 8);
  }

  // Entry number `row` (low 4 bits) in each lane; `bit3` has that bit of the row in its sign.
  __m256i operator()(__m256i row, __m256i bit3) const {
    return _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low, row)),
                         _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high, row)),
                         _mm256_castsi256_ps(bit3)));
  }
};

// For each mask of lanes: the bytes of their low 16 bits, those of the first such lane first, at the end of 16.
constexpr auto kGather = [] {
  std::array<std::array<uint8_t, 16>, 256> table{};
  for (int mask = 0; mask < 256; ++mask)
    for (int lane = 7, to = 14; lane >= 0; --lane)
      if (mask >> lane & 1) {
        table[static_cast<size_t>(mask)][static_cast<size_t>(to)] = static_cast<uint8_t>(2 * lane);
        table[static_cast<size_t>(mask)][static_cast<size_t>(to + 1)] = static_cast<uint8_t>(2 * lane + 1);
        to -= 2;
      }
  return table;
}();

// The low 16 bits of each lane.
inline __m128i narrow(__m256i v) {
  const __m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xFFFF));
  return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}

// Writes the low `bits` bits (1 to 8) of 8 offsets as `bits` bytes, and no byte more.
inline void store_verbatim(uint8_t* to, __m256i offset, int bits) {
  const __m128i bytes = _mm_packus_epi16(
      _mm_and_si128(narrow(offset), _mm_set1_epi16(0xFF)), _mm_setzero_si128());
  const uint64_t mask = ((uint64_t{1} << bits) - 1) * 0x0101010101010101u;
  uint64_t packed = _pext_u64(static_cast<uint64_t>(_mm_cvtsi128_si64(bytes)), mask);
  for (int i = 0; i < bits; ++i, packed >>= 8) to[i] = static_cast<uint8_t>(packed);
}

class Rows {
 public:
  explicit Rows(const PushColumns& columns) {
    for (int s = 0; s < 4; ++s) {
      uint32_t bounds[8];
      for (int path = 0; path < 8; ++path)  // the bits of the row known at step s, and then a one
        bounds[path] = columns.row_before[((path << 1 | 1) << (3 - s)) & 15];
      steps_[s] = load(bounds);
    }
  }

  // The row of each value.
  __m256i find(__m256i value) const {
    __m256i path = _mm256_setzero_si256();
    for (int s = 0; s < 4; ++s) {
      const __m256i above =
          _mm256_cmpgt_epi32(value, _mm256_permutevar8x32_epi32(steps_[s], path));
      path = _mm256_sub_epi32(_mm256_add_epi32(path, path), above);
    }
    return path;
  }

 private:
  __m256i steps_[4];
};

// The high halves of the products of unsigned 32-bit lanes.
inline __m256i multiply_high(__m256i a, __m256i b) {
  const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
  return _mm256_blend_epi32(even, odd, 0b10101010);
}

// All-ones where a >= b, unsigned.
inline __m256i at_least(__m256i a, __m256i b) {
  return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a);
}

// A symbol is a row, what of the offset goes into the state from bit 4 on, and bit 3 of the row in the sign.
class Splitter {
 public:
  Splitter(const PushColumns& columns, int verbatim_bits)
      : rows_(columns),
        base_(columns.base),
        reach_(columns.reach),
        verbatim_bits_(verbatim_bits) {}

  // 8 symbols; writes the values' verbatim bits.
  template <typename Value>
  void split(const Value* values, uint32_t* symbols, uint8_t* verbatim) {
    const __m256i value = widen(values), row = rows_.find(value);
    const __m256i bit3 = _mm256_slli_epi32(row, 28);
    __m256i offset = _mm256_and_si256(_mm256_sub_epi32(value, base_(row, bit3)),
                                      _mm256_set1_epi32(0xFFFF));
    right_ = _mm256_and_si256(right_, at_least(reach_(row, bit3), offset));
    if (sizeof(Value) == 2 && verbatim_bits_) {
      store_verbatim(verbatim, offset, verbatim_bits_);
      offset = _mm256_srl_epi32(offset, _mm_cvtsi32_si128(verbatim_bits_));
    }
    store(symbols, _mm256_or_si256(_mm256_or_si256(row, _mm256_slli_epi32(offset, 4)),
                                   _mm256_and_si256(bit3, _mm256_set1_epi32(INT32_MIN))));
  }

  // Whether every value had a row.
  bool right() const { return _mm256_movemask_epi8(right_) == -1; }

 private:
  Rows rows_;
  Column base_, reach_;
  int verbatim_bits_;
  __m256i right_ = _mm256_set1_epi32(-1);
};

class Pusher {
 public:
  Pusher(const PushColumns& columns, int count_bits, uint16_t* words)
      : count_(columns.count),
        limit_(columns.limit),
        state_bits_(columns.state_bits),
        first_code_(columns.first_code),
        divisor_(columns.divisor),
        last_index_(_mm256_set1_epi32((1 << count_bits) - 1)),
        count_bits_(_mm_cvtsi32_si128(count_bits)),
        words_(words) {}

  uint16_t* words() const { return words_; }

  // Pushes 8 symbols but for the code, which is added later: what is here is the codes' indices.
  void push(const uint32_t* symbols, uint32_t* states, uint32_t* indices) {
    const __m256i symbol = load(symbols);
    __m256i x = load(states);
    const __m256i sheds = at_least(x, limit_(symbol, symbol));
    const auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(sheds)));
    const __m128i together =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(kGather[mask].data()));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words_ - 8),
                     _mm_shuffle_epi8(narrow(x), together));
    words_ -= __builtin_popcount(mask);
    x = _mm256_blendv_epi8(x, _mm256_srli_epi32(x, 16), sheds);
    const __m256i offset =
        _mm256_srli_epi32(_mm256_and_si256(symbol, _mm256_set1_epi32(INT32_MAX)), 4);
    x = _mm256_or_si256(_mm256_sllv_epi32(x, state_bits_(symbol, symbol)), offset);
    const __m256i count = count_(symbol, symbol);
    __m256i quotient = multiply_high(x, divisor_(symbol, symbol));
    __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, count));
    const __m256i under = at_least(rest, count);
    quotient = _mm256_sub_epi32(quotient, under);
    rest = _mm256_sub_epi32(rest, _mm256_and_si256(under, count));
    store(states, _mm256_sll_epi32(quotient, count_bits_));
    store(indices, _mm256_min_epu32(_mm256_add_epi32(rest, first_code_(symbol, symbol)),
                                    last_index_));
  }

 private:
  Column count_, limit_, state_bits_, first_code_, divisor_;
  __m256i last_index_;
  __m128i count_bits_;
  uint16_t* words_;
};

}  // namespace

// Three loops over the lanes in place of one keep their chains short, so that many overlap.
template <typename Value>
bool rans_push_avx2(const RansTable& table, const PushColumns& columns, const Value* values,
                    size_t n, size_t lanes, uint32_t* states, uint16_t*& words,
                    uint8_t* verbatim) {
  Splitter splitter(columns, table.verbatim_bits);
  Pusher pusher(columns, table.count_bits, words);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  const uint16_t* const code_of = table.code_of().data();
  alignas(32) uint32_t symbols[kMaxLanes], indices[kMaxLanes], held[kMaxLanes];
  std::copy_n(states, lanes, held);
  for (size_t at = n; at > 0;) {
    at -= lanes;
    for (size_t lane = 0; lane < lanes; lane += 8)
      splitter.split(values + at + lane, symbols + lane, verbatim + (at + lane) / 8 * bits);
    for (size_t lane = lanes; lane > 0;) {
      lane -= 8;
      pusher.push(symbols + lane, held + lane, indices + lane);
    }
    for (size_t lane = 0; lane < lanes; ++lane) held[lane] += code_of[indices[lane]];
  }
  std::copy_n(held, lanes, states);
  words = pusher.words();
  return splitter.right();
}

template bool rans_push_avx2(const RansTable&, const PushColumns&, const uint8_t*, size_t, size_t,
                             uint32_t*, uint16_t*&, uint8_t*);
template bool rans_push_avx2(const RansTable&, const PushColumns&, const uint16_t*, size_t, size_t,
                             uint32_t*, uint16_t*&, uint8_t*);

}  // namespace fewbits

#endif
