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
  __m256i code_mask, within_mask, verbatim_bytes, verbatim_shifts, verbatim_mask;
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

Constants constants_of(const RansTable& table) {
  const int shift = table.count_bits, verbatim = table.verbatim_bits;
  // Value i of 8 has its verbatim bits from bit i * verbatim on, which two bytes hold.
  alignas(32) uint8_t bytes[32];
  alignas(32) uint32_t shifts[8];
  for (int i = 0; i < 8; ++i) {
    const int byte = i * verbatim / 8;
    shifts[i] = static_cast<uint32_t>(i * verbatim % 8);
    bytes[4 * i] = static_cast<uint8_t>(byte);
    bytes[4 * i + 1] = static_cast<uint8_t>(byte + 1);
    bytes[4 * i + 2] = bytes[4 * i + 3] = 0x80;  // gives zero
  }
  return {load_pair(table.thresholds),
          load_pair(table.first),
          load_pair(table.second),
          load_pair(table.starts),
          _mm256_set1_epi32((1 << shift) - 1),
          _mm256_set1_epi32((1 << (shift - 4)) - 1),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(shifts)),
          _mm256_set1_epi32((1 << verbatim) - 1),
          _mm_cvtsi32_si128(shift),
          _mm_cvtsi32_si128(shift - 4),
          _mm_cvtsi32_si128(32 - shift),
          _mm_cvtsi32_si128(verbatim)};
}

// The verbatim bits of 8 values: their bytes broadcast, two dealt to each lane, shifted into place.
inline __m256i load_verbatim(const Constants& c, const uint8_t* from) {
  const __m256i bytes = _mm256_broadcastsi128_si256(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i pairs = _mm256_shuffle_epi8(bytes, c.verbatim_bytes);
  return _mm256_and_si256(_mm256_srlv_epi32(pairs, c.verbatim_shifts), c.verbatim_mask);
}

// One round of one register: decodes 8 values, returns them in the low bits of 32. `x` is renormalised and
// `words` advanced.
template <bool kVerbatim, bool kCompact>
inline __m256i step(const Constants& c, __m256i& x, const uint8_t*& words,
                    const uint8_t* verbatim) {
  const __m256i bucket = _mm256_srl_epi32(x, c.bucket_shift);
  const __m256i bit3 = _mm256_sll_epi32(x, c.bit3_shift);
  const __m256i within = _mm256_and_si256(x, c.within_mask);
  const __m256i below = _mm256_cmpgt_epi32(look_up(c.thresholds, bucket, bit3), within);
  const __m256i entry = _mm256_blendv_epi8(look_up(c.second, bucket, bit3),
                                           look_up(c.first, bucket, bit3), below);
  __m256i count, bits, start, bias;
  if constexpr (kCompact) {
    count = _mm256_srli_epi32(entry, 22);
    bits = _mm256_and_si256(entry, _mm256_set1_epi32(15));
    start = _mm256_srli_epi32(entry, 4);  // what lies above its 8 bits is dropped with the value's
    bias = _mm256_srli_epi32(entry, 12);
  } else {
    count = _mm256_and_si256(_mm256_srli_epi32(entry, 16), _mm256_set1_epi32(0xFFF));
    bits = _mm256_srli_epi32(entry, 28);
    start = look_up(c.starts, entry, _mm256_slli_epi32(entry, 28));
    bias = _mm256_srli_epi32(entry, 4);
  }
  const __m256i position = _mm256_and_si256(_mm256_add_epi32(bias, within), c.code_mask);
  x = _mm256_add_epi32(_mm256_mullo_epi32(count, _mm256_srl_epi32(x, c.shift)), position);
  __m256i offset = _mm256_andnot_si256(_mm256_sllv_epi32(_mm256_set1_epi32(-1), bits), x);
  x = _mm256_srlv_epi32(x, bits);
  if constexpr (kVerbatim)
    offset = _mm256_or_si256(_mm256_sll_epi32(offset, c.verbatim_shift),
                             load_verbatim(c, verbatim));
  const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
  const __m256i next =
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
  const __m256i dealt = _mm256_permutevar8x32_epi32(
      next, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kDeal[mask].data())));
  x = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), dealt), low);
  words += 2 * static_cast<size_t>(__builtin_popcount(mask));
  return _mm256_add_epi32(start, offset);
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

template <typename Value, bool kVerbatim, bool kCompact, int kRegisters>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  const Constants c = constants_of(table);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
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
      store(out + at, step<kVerbatim, kCompact>(
                          c, x[r], words, verbatim + (kVerbatim ? at / 8 * bits : 0)));
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
    case 256: return run.template operator()<32>();
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
