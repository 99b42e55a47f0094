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
#include "xxh3_avx512.hpp"

#if defined(__AVX512VBMI2__)

#include <immintrin.h>

#include <array>
#include <utility>

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
  __m512i shift, bucket_shift, ones;
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

// What a step is made for: values with verbatim bits, rows with offset bits in the state, the remap that
// values go back through.
struct Kind {
  bool verbatim, offsets;
  Remap remap;
};

template <Remap kRemap, typename Value>
inline __m512i unmap(__m512i values) {
  if constexpr (kRemap == Remap::identity) return values;
  if constexpr (kRemap == Remap::sign_to_lsb && sizeof(Value) == 2)
    return _mm512_shrdi_epi16(values, values, 1);
  if constexpr (sizeof(Value) == 1) values = _mm512_and_si512(values, _mm512_set1_epi16(0xFF));
  const __m512i half = _mm512_srli_epi16(values, 1);
  if constexpr (kRemap == Remap::sign_to_lsb)
    return _mm512_or_si512(half, _mm512_slli_epi16(values, 7));
  const __m512i low_bit = _mm512_and_si512(values, _mm512_set1_epi16(1));
  return _mm512_xor_si512(half, _mm512_sub_epi16(_mm512_setzero_si512(), low_bit));
}

// What a step needs to know of the codes of 32 lanes.
struct Found {
  __m512i g, scaled, bits, start;
};

template <Kind kKind>
[[gnu::always_inline]] inline Found find(const Constants& c, const States& x) {
  // The permutes read the low 5 bits of an index. Of a bucket's number there are 4, and the fifth is the
  // lowest bit of u, for which delta makes up.
  const __m512i bucket = _mm512_srlv_epi16(x.low, c.bucket_shift);
  const __m512i half = _mm512_srlv_epi16(
      _mm512_add_epi16(x.low, _mm512_permutexvar_epi16(bucket, c.delta)), c.bucket_shift);
  const auto look_up = [&](__m512i table) { return _mm512_permutexvar_epi16(half, table); };
  const __m512i u = _mm512_srlv_epi16(x.low, c.shift);
  const __m512i g = _mm512_add_epi16(_mm512_mullo_epi16(look_up(c.gain), u),
                                     _mm512_add_epi16(x.low, look_up(c.bias)));
  return {g, look_up(c.scaled), kKind.offsets ? look_up(c.state_bits) : _mm512_setzero_si512(),
          look_up(c.start)};
}

// The rest of the step: decodes 32 values into 16 bits each. The states are renormalised and `words` advanced.
// `active` are the lanes that there are.
template <typename Value, Kind kKind>
[[gnu::always_inline]] inline __m512i advance(const Constants& c, const Found& found, States& x,
                                              const uint8_t*& words, const uint8_t* verbatim,
                                              __mmask32 active) {
  const __m512i rest = kKind.offsets ? _mm512_srlv_epi16(found.g, found.bits) : found.g;
  const __m512i product = _mm512_mullo_epi16(found.scaled, x.high);
  const __m512i low = _mm512_add_epi16(product, rest);
  // The top bit is the carry of that sum: in arithmetic, since comparisons into masks are slow.
  const __m512i carry = _mm512_ternarylogic_epi32(product, rest, low, 0xD4);
  const __m512i high = _mm512_add_epi16(_mm512_mulhi_epu16(found.scaled, x.high),
                                        _mm512_srli_epi16(carry, 15));
  const __mmask32 empty = _mm512_mask_testn_epi16_mask(active, high, high);
  __m512i next = _mm512_loadu_si512(words);
  asm("" : "+v"(next));  // `expand` from memory takes several times as long on some processors
  x.high = _mm512_mask_mov_epi16(high, empty, low);
  x.low = _mm512_mask_expand_epi16(low, empty, next);
  words += 2 * static_cast<size_t>(__builtin_popcount(empty));

  __m512i offset = found.g;
  if constexpr (kKind.verbatim) {
    const __m512i bytes = _mm512_permutexvar_epi8(
        c.verbatim_bytes, _mm512_castsi256_si512(_mm256_loadu_si256(
                              reinterpret_cast<const __m256i*>(verbatim))));
    offset = _mm512_ternarylogic_epi32(
        c.verbatim_mask, _mm512_multishift_epi64_epi8(c.verbatim_shifts, bytes),
        _mm512_sllv_epi16(found.g, c.verbatim_shift), 0xCA);  // where the mask is set the bits, else g
  }
  __m512i value = found.start;
  if constexpr (kKind.offsets || kKind.verbatim)
    value = _mm512_add_epi16(
        value, _mm512_andnot_si512(_mm512_sllv_epi16(c.ones, found.bits), offset));
  return unmap<kKind.remap, Value>(value);
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

template <typename Value, Kind kKind, size_t kLanes>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n,
              Xxh3Rounds* hash) {
  constexpr size_t steps = (kLanes + 31) / 32, values = kLanes / steps;
  constexpr auto active = static_cast<__mmask32>((uint64_t{1} << values) - 1);
  // A step loads 32 words and uses at most one a lane, so whatever the round leaves, its last step may
  // read up to 32 words past those used before it: in a round of 16 lanes, 16 more than that has.
  constexpr size_t reach = 2 * 32 * steps;
  const Constants c = constants_of(table);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  const uint8_t* words = words_io;
  size_t done = 0;
  // A pack of indices in place of loops: so compilers keep the states in registers.
  [&]<size_t... S>(std::index_sequence<S...>) {
    States x[steps] = {load_states(states + 32 * S, active)...};
    Found found = find<kKind>(c, x[0]);
    for (; n - done >= kLanes && static_cast<size_t>(words_end - words) >= reach; done += kLanes) {
      const auto one = [&]<size_t kStep>() __attribute__((always_inline)) {
        // The next step's first half comes before this one's second, so that the one fills what the other waits.
        constexpr size_t following = (kStep + 1) % steps;
        Found next;
        if constexpr (steps > 1) next = find<kKind>(c, x[following]);
        store(out + done + 32 * kStep,
              advance<Value, kKind>(c, found, x[kStep], words, verbatim + kStep * 4 * bits, active),
              active);
        if constexpr (steps == 1) next = find<kKind>(c, x[following]);
        found = next;
      };
      (one.template operator()<S>(), ...);
      verbatim += kLanes / 8 * bits;
      // What the round before has left, for it lies in the cache by now.
      if (hash->count && hash->next + kRound <= reinterpret_cast<const uint8_t*>(out + done)) {
        _mm512_store_si512(hash->acc, xxh3_round(_mm512_load_si512(hash->acc), hash->next));
        hash->next += kRound;
        --hash->count;
      }
    }
    (store_states(states + 32 * S, x[S], active), ...);
  }(std::make_index_sequence<steps>());
  words_io = words;
  return done;
}

}  // namespace

template <typename Value>
size_t rans_rounds_avx512(const RansTable& table, uint32_t* states, size_t lanes,
                          const uint8_t*& words, const uint8_t* words_end,
                          const uint8_t* verbatim, Remap remap, Value* out, size_t n,
                          Xxh3Rounds* hash) {
  const auto run = [&]<Kind kKind>() {
    switch (lanes) {
      case 256: return rounds<Value, kKind, 256>(table, states, words, words_end, verbatim, out, n, hash);
      case 128: return rounds<Value, kKind, 128>(table, states, words, words_end, verbatim, out, n, hash);
      case 64: return rounds<Value, kKind, 64>(table, states, words, words_end, verbatim, out, n, hash);
      case 32: return rounds<Value, kKind, 32>(table, states, words, words_end, verbatim, out, n, hash);
      default: return rounds<Value, kKind, 16>(table, states, words, words_end, verbatim, out, n, hash);
    }
  };
  const auto remapped = [&]<bool kVerbatim, bool kOffsets>() {
    switch (remap) {
      case Remap::sign_to_lsb:
        return run.template operator()<Kind{kVerbatim, kOffsets, Remap::sign_to_lsb}>();
      case Remap::zigzag: return run.template operator()<Kind{kVerbatim, kOffsets, Remap::zigzag}>();
      default: return run.template operator()<Kind{kVerbatim, kOffsets, Remap::identity}>();
    }
  };
  if constexpr (sizeof(Value) == 2)
    return verbatim ? remapped.template operator()<true, true>()
                    : remapped.template operator()<false, true>();
  else
    return table.has_offsets ? remapped.template operator()<false, true>()
                             : remapped.template operator()<false, false>();
}

template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, Remap, uint8_t*, size_t, Xxh3Rounds*);
template size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                   const uint8_t*, const uint8_t*, Remap, uint16_t*, size_t, Xxh3Rounds*);

}  // namespace fewbits

#endif
