// The rANS loop in AVX-512: 32 lanes a step, tables in registers, no gathers, nothing wider than 16 bits.
//
// A state x is kept as two registers of halves: x = H * 2^16 + L. With m count bits, b offset bits of the
// row in the state, and L = u * 2^m + code, the plain form's x' = count * (x >> m) + position is
//
//   x' = count * H * 2^(16 - m) + g   with   g = count * u + position,
//
// and g < count * (u + 1) <= 2^16. The offset is the low b <= 16 - m bits of x', so it is g mod 2^b, and
//
//   x' >> b = scaled * H + (g >> b)   with   scaled = count << (16 - m - b) < 2^16:
//
// two halves of one 16-bit product and one carry. Also position = code + bias = L - u * 2^m + bias, so
// g = (count - 2^m) * u + L + bias modulo 2^16. What is known of a code is looked up by its half bucket
// (RansTable::halves), whose number is one look-up of 16 and one addition away.
//
// A state below 2^16 is one with H = 0: it takes L as its new H and a word as its new L, and `expand`
// deals the words to those lanes in order.
#include "rans.hpp"

#if defined(__AVX512VBMI2__)

#include <immintrin.h>

#include <array>

namespace fewbits {

namespace {

// Where the verbatim bits of 32 values lie, for each number of them a value. Each 64 bits hold four
// values: `bytes` brings the bytes that their bits are in, `shifts` moves them to their lanes.
struct Spread {
  alignas(64) std::array<uint8_t, 64> bytes, shifts;
};
constexpr auto kSpreads = [] {
  std::array<Spread, 9> spreads{};
  for (uint32_t bits = 1; bits <= 8; ++bits)
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t first = i / 8 * 4 * bits, value = i / 2;
      spreads[bits].bytes[i] = static_cast<uint8_t>(first / 8 + i % 8);
      spreads[bits].shifts[i] = static_cast<uint8_t>(value * bits - first / 8 * 8);
    }
  return spreads;
}();

struct Constants {
  __m512i delta, bias, gain, scaled, state_bits, start;
  __m512i code_mask, shift, bucket_shift, ones;
  __m512i verbatim_bytes, verbatim_shifts, verbatim_mask, verbatim_shift;
};

Constants constants_of(const RansTable& table) {
  const auto load = [](const void* p) { return _mm512_loadu_si512(p); };
  const auto all = [](int x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); };
  const int m = table.count_bits, verbatim = table.verbatim_bits;
  const Spread& spread = kSpreads[static_cast<size_t>(verbatim)];
  return {load(table.halves.delta),
          load(table.halves.bias),
          _mm512_sub_epi16(load(table.halves.count), all(1 << m)),
          load(table.halves.scaled),
          load(table.halves.state_bits),
          load(table.halves.start),
          all((1 << m) - 1),
          all(m),
          all(m - 4),
          all(-1 << verbatim),
          load(spread.bytes.data()),
          load(spread.shifts.data()),
          all((1 << verbatim) - 1),
          all(verbatim)};
}

struct States {
  __m512i high, low;
};

// One step: decodes 32 values into 16 bits each. The states are renormalised and `words` advanced. `active`
// are the lanes that there are.
template <bool kVerbatim>
inline __m512i step(const Constants& c, States& x, const uint8_t*& words, const uint8_t* verbatim,
                    __mmask32 active) {
  // The permutes read the low 5 bits of an index; of a bucket's 4 what lies above does not matter.
  const __m512i bucket = _mm512_srlv_epi16(x.low, c.bucket_shift);
  const __m512i code = _mm512_and_si512(x.low, c.code_mask);
  const __m512i half = _mm512_srlv_epi16(
      _mm512_add_epi16(code, _mm512_permutexvar_epi16(bucket, c.delta)), c.bucket_shift);
  const auto look_up = [&](__m512i table) { return _mm512_permutexvar_epi16(half, table); };
  const __m512i u = _mm512_srlv_epi16(x.low, c.shift);
  const __m512i g = _mm512_add_epi16(_mm512_mullo_epi16(look_up(c.gain), u),
                                     _mm512_add_epi16(x.low, look_up(c.bias)));
  const __m512i bits = look_up(c.state_bits), scaled = look_up(c.scaled);
  const __m512i rest = _mm512_srlv_epi16(g, bits);
  const __m512i low = _mm512_add_epi16(_mm512_mullo_epi16(scaled, x.high), rest);
  const __m512i product = _mm512_mulhi_epu16(scaled, x.high);
  const __mmask32 carry = _mm512_cmplt_epu16_mask(low, rest);
  const __m512i high = _mm512_mask_sub_epi16(product, carry, product, _mm512_set1_epi16(-1));
  __m512i next = _mm512_loadu_si512(words);
  asm("" : "+v"(next));  // `expand` from memory takes several times as long on some processors
  // Whether high is zero, without waiting for it.
  const __mmask32 empty =
      _kandn_mask32(carry, _mm512_mask_testn_epi16_mask(active, product, product));
  x.high = _mm512_mask_mov_epi16(high, empty, low);
  x.low = _mm512_mask_expand_epi16(low, empty, next);
  words += 2 * static_cast<size_t>(__builtin_popcount(empty));

  __m512i offset = g;
  if constexpr (kVerbatim) {
    const __m512i bytes = _mm512_permutexvar_epi8(
        c.verbatim_bytes, _mm512_castsi256_si512(_mm256_loadu_si256(
                              reinterpret_cast<const __m256i*>(verbatim))));
    offset = _mm512_ternarylogic_epi32(
        c.verbatim_mask, _mm512_multishift_epi64_epi8(c.verbatim_shifts, bytes),
        _mm512_sllv_epi16(g, c.verbatim_shift), 0xCA);  // where the mask is set the bits, else g
  }
  offset = _mm512_andnot_si512(_mm512_sllv_epi16(c.ones, bits), offset);
  return _mm512_add_epi16(look_up(c.start), offset);
}

inline void store(uint8_t* out, __m512i values, __mmask32 active) {
  _mm256_mask_storeu_epi8(out, active, _mm512_cvtepi16_epi8(values));
}

inline void store(uint16_t* out, __m512i values, __mmask32 active) {
  _mm512_mask_storeu_epi16(out, active, values);
}

States load_states(const uint32_t* states, __mmask32 active) {
  const __m512i first = _mm512_loadu_si512(states);
  const __m512i second =
      active >> 16 ? _mm512_loadu_si512(states + 16) : _mm512_setzero_si512();
  const auto join = [](__m512i a, __m512i b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                              _mm512_cvtepi32_epi16(b), 1);
  };
  return {join(_mm512_srli_epi32(first, 16), _mm512_srli_epi32(second, 16)), join(first, second)};
}

void store_states(uint32_t* states, const States& x, __mmask32 active) {
  const auto wide = [](__m256i high, __m256i low) {
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16),
                           _mm512_cvtepu16_epi32(low));
  };
  _mm512_storeu_si512(states,
                      wide(_mm512_castsi512_si256(x.high), _mm512_castsi512_si256(x.low)));
  if (active >> 16)
    _mm512_storeu_si512(states + 16, wide(_mm512_extracti64x4_epi64(x.high, 1),
                                          _mm512_extracti64x4_epi64(x.low, 1)));
}

template <typename Value, bool kVerbatim, size_t kLanes>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  constexpr size_t steps = (kLanes + 31) / 32, values = kLanes / steps;
  constexpr auto active = static_cast<__mmask32>((uint64_t{1} << values) - 1);
  const Constants c = constants_of(table);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  States x[steps];
  for (size_t s = 0; s < steps; ++s) x[s] = load_states(states + 32 * s, active);
  // A step loads 32 words and uses at most one a lane, so whatever the round leaves, its last step may
  // read up to 32 words past those used before it: in a round of 16 lanes, 16 more than that has.
  constexpr size_t reach = 2 * 32 * steps;
  const uint8_t* words = words_io;
  size_t done = 0;
  for (; n - done >= kLanes && static_cast<size_t>(words_end - words) >= reach; done += kLanes) {
#pragma GCC unroll 8
    for (size_t s = 0; s < steps; ++s) {
      const size_t at = done + 32 * s;
      store(out + at,
            step<kVerbatim>(c, x[s], words, verbatim + (kVerbatim ? at / 8 * bits : 0), active),
            active);
    }
  }
  for (size_t s = 0; s < steps; ++s) store_states(states + 32 * s, x[s], active);
  words_io = words;
  return done;
}

}  // namespace

template <typename Value>
size_t rans_rounds_avx512(const RansTable& table, uint32_t* states, size_t lanes,
                          const uint8_t*& words, const uint8_t* words_end,
                          const uint8_t* verbatim, Value* out, size_t n) {
  const auto run = [&]<size_t kLanes>() {
    if constexpr (sizeof(Value) == 2)
      if (verbatim)
        return rounds<Value, true, kLanes>(table, states, words, words_end, verbatim, out, n);
    return rounds<Value, false, kLanes>(table, states, words, words_end, nullptr, out, n);
  };
  switch (lanes) {
    case 256: return run.template operator()<256>();
    case 128: return run.template operator()<128>();
    case 64: return run.template operator()<64>();
    case 32: return run.template operator()<32>();
    default: return run.template operator()<16>();
  }
}

template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, uint8_t*, size_t);
template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, uint16_t*, size_t);

}  // namespace fewbits

#endif
