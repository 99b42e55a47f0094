// The rANS loop in AVX2: 8 lanes a register, 16-entry tables in pairs of registers, no gathers.
//
// As rans_avx512.cpp, with three substitutes: a look-up of 16 entries is two 8-entry permutes and a
// blend on bit 3 of the bucket; "below 2^16" is "high half equals zero"; and the words are dealt to
// lanes by a permute whose indices come from a table, one row for each of the 256 masks.
#include "rans.hpp"

#if defined(__AVX2__)

#include <immintrin.h>

#include <array>
#include <cstring>

namespace fewbits {

namespace {

struct Pair {
  __m256i low, high;
};

struct Constants {
  Pair thresholds, first, second, starts;
  __m256i code_mask, within_mask;
  __m128i shift, bucket_shift, bit3_shift, verbatim_shift;
};

// For each mask of lanes: how many set lanes lie below each lane, which is the word that it takes.
constexpr auto kDeal = [] {
  std::array<std::array<uint32_t, 8>, 256> table{};
  for (uint32_t mask = 0; mask < 256; ++mask)
    for (uint32_t lane = 0, next = 0; lane < 8; ++lane) {
      table[mask][lane] = next;
      next += mask >> lane & 1;
    }
  return table;
}();

inline Pair load_pair(const uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}

// Entry number `index` (low 4 bits) in each lane; `bit3` has that bit of the index in its sign.
inline __m256i look_up(const Pair& table, __m256i index, __m256i bit3) {
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_permutevar8x32_epi32(table.low, index)),
                       _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(table.high, index)),
                       _mm256_castsi256_ps(bit3)));
}

// The verbatim bits of 8 values: `bits` bytes, dealt to eight by a bit deposit.
inline __m256i load_verbatim(const uint8_t* from, uint64_t byte_mask) {
  uint64_t packed;
  std::memcpy(&packed, from, 8);
  return _mm256_cvtepu8_epi32(
      _mm_cvtsi64_si128(static_cast<int64_t>(_pdep_u64(packed, byte_mask))));
}

template <bool kVerbatim>
inline __m256i step(const Constants& c, __m256i& x, const uint8_t*& words, __m256i low_bits) {
  const __m256i bucket = _mm256_srl_epi32(x, c.bucket_shift);
  const __m256i bit3 = _mm256_sll_epi32(x, c.bit3_shift);
  const __m256i within = _mm256_and_si256(x, c.within_mask);
  const __m256i below = _mm256_cmpgt_epi32(look_up(c.thresholds, bucket, bit3), within);
  const __m256i entry = _mm256_blendv_epi8(look_up(c.second, bucket, bit3),
                                           look_up(c.first, bucket, bit3), below);
  const __m256i count = _mm256_and_si256(entry, _mm256_set1_epi32(0xFFF));
  const __m256i position = _mm256_and_si256(
      _mm256_add_epi32(_mm256_srli_epi32(entry, 12), within), c.code_mask);
  const __m256i bits =
      _mm256_and_si256(_mm256_srli_epi32(entry, 24), _mm256_set1_epi32(15));
  x = _mm256_add_epi32(_mm256_mullo_epi32(count, _mm256_srl_epi32(x, c.shift)), position);
  __m256i value = _mm256_andnot_si256(_mm256_sllv_epi32(_mm256_set1_epi32(-1), bits), x);
  x = _mm256_srlv_epi32(x, bits);
  if constexpr (kVerbatim)
    value = _mm256_or_si256(_mm256_sll_epi32(value, c.verbatim_shift), low_bits);
  value = _mm256_add_epi32(value, look_up(c.starts, _mm256_srli_epi32(entry, 28), entry));
  const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
  const __m256i next =
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
  const __m256i dealt = _mm256_permutevar8x32_epi32(
      next, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kDeal[mask].data())));
  x = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), dealt), low);
  words += 2 * static_cast<size_t>(__builtin_popcount(mask));
  return value;
}

inline void store(uint8_t* out, __m256i value) {
  const __m256i bytes = _mm256_shuffle_epi8(
      value, _mm256_set1_epi32(0x0C080400));  // every fourth byte, in each 128-bit half
  const uint32_t low = static_cast<uint32_t>(_mm256_extract_epi32(bytes, 0));
  const uint32_t high = static_cast<uint32_t>(_mm256_extract_epi32(bytes, 4));
  const uint64_t both = low | uint64_t{high} << 32;
  std::memcpy(out, &both, 8);
}

inline void store(uint16_t* out, __m256i value) {
  value = _mm256_and_si256(value, _mm256_set1_epi32(0xFFFF));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(value, value), 0b1000);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
}

template <typename Value, bool kVerbatim, int kRegisters>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  const int shift = table.count_bits;
  const Constants c{load_pair(table.thresholds),
                    load_pair(table.first),
                    load_pair(table.second),
                    load_pair(table.starts),
                    _mm256_set1_epi32((1 << shift) - 1),
                    _mm256_set1_epi32((1 << (shift - 4)) - 1),
                    _mm_cvtsi32_si128(shift),
                    _mm_cvtsi32_si128(shift - 4),
                    _mm_cvtsi32_si128(32 - shift),
                    _mm_cvtsi32_si128(table.verbatim_bits)};
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  const uint64_t byte_mask = 0x0101010101010101 * ((1u << bits) - 1);
  __m256i x[kRegisters];
  const auto at_state = [&](int r) { return reinterpret_cast<__m256i*>(states + 8 * r); };
  for (int r = 0; r < kRegisters; ++r) x[r] = _mm256_loadu_si256(at_state(r));
  constexpr size_t lanes = 8 * kRegisters;
  const uint8_t* words = words_io;
  size_t done = 0;
  for (; n - done >= lanes && static_cast<size_t>(words_end - words) >= 2 * lanes; done += lanes) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const size_t at = done + 8 * r;
      __m256i low_bits = _mm256_setzero_si256();
      if constexpr (kVerbatim) low_bits = load_verbatim(verbatim + at / 8 * bits, byte_mask);
      store(out + at, step<kVerbatim>(c, x[r], words, low_bits));
    }
  }
  for (int r = 0; r < kRegisters; ++r) _mm256_storeu_si256(at_state(r), x[r]);
  words_io = words;
  return done;
}

}  // namespace

template <typename Value>
size_t rans_rounds_avx2(const RansTable& table, uint32_t* states, size_t lanes,
                        const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                        Value* out, size_t n) {
  const auto run = [&]<int kRegisters>() {
    if constexpr (sizeof(Value) == 2)
      if (verbatim)
        return rounds<Value, true, kRegisters>(table, states, words, words_end, verbatim, out, n);
    return rounds<Value, false, kRegisters>(table, states, words, words_end, verbatim, out, n);
  };
  switch (lanes) {
    case 128: return run.template operator()<16>();
    case 64: return run.template operator()<8>();
    case 32: return run.template operator()<4>();
    case 16: return run.template operator()<2>();
    default: return run.template operator()<1>();
  }
}

template size_t rans_rounds_avx2(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                 const uint8_t*, const uint8_t*, uint8_t*, size_t);
template size_t rans_rounds_avx2(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                 const uint8_t*, const uint8_t*, uint16_t*, size_t);

}  // namespace fewbits

#endif
