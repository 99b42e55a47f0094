// The rANS loop in AVX2: 32 lanes a step, tables in registers, no gathers, nothing wider than 16 bits.
//
// The arithmetic is that of rans_avx512.cpp, in pairs of 16 lanes. What is known of a code is looked up
// in bytes, 32 lanes at a time, since a table of 16 bytes is what one shuffle reads: by the row, where it
// hangs on that alone. A shift by b, which 16-bit lanes lack, is a product with 2^(16-b); no shift at
// all is the exception. Words are dealt by a shuffle of 8 lanes whose indices come from a table with a
// row for each of the 256 masks.
//
// In bytes the lanes stand as `packus` leaves them: 0-7, 16-23, 8-15, 24-31. `unpack` puts them back.
#include "rans.hpp"

#if defined(__AVX2__)

#include <immintrin.h>

#include <array>

namespace fewbits {

namespace {

// For each mask of 8 lanes: how many set lanes lie below each lane, which is the word that it takes.
alignas(64) constexpr auto kDeal = [] {
  std::array<std::array<uint8_t, 16>, 256> table{};
  for (uint32_t mask = 0; mask < 256; ++mask)
    for (uint32_t lane = 0, next = 0; lane < 8; ++lane) {
      table[mask][2 * lane] = static_cast<uint8_t>(2 * next);
      table[mask][2 * lane + 1] = static_cast<uint8_t>(2 * next + 1);
      next += mask >> lane & 1;
    }
  return table;
}();

// Where the verbatim bits of 16 values lie, for each number of them a value: the two bytes that hold them,
// and what brings them to the top of 16 bits by multiplication.
struct Spread {
  alignas(32) std::array<uint8_t, 32> bytes;
  alignas(32) std::array<uint16_t, 16> factors;
};
constexpr auto kSpreads = [] {
  std::array<Spread, 9> spreads{};
  for (uint32_t bits = 1; bits <= 8; ++bits)
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t first = i * bits / 8;
      spreads[bits].bytes[2 * i] = static_cast<uint8_t>(first);
      spreads[bits].bytes[2 * i + 1] = static_cast<uint8_t>(first < 15 ? first + 1 : 0x80);  // zero
      spreads[bits].factors[i] = static_cast<uint16_t>(1u << (16 - bits - i * bits % 8));
    }
  return spreads;
}();

// A column of 16-bit entries as two tables of bytes, each in both 128-bit halves.
struct Column {
  __m256i low, high;
};

struct Constants {
  Column bias_below, bias_above, gain, scaled, start;
  __m256i threshold, second, factor, offset_mask, within_mask;
  __m256i verbatim_bytes, verbatim_factors, verbatim_shift_back;
  __m128i shift, bucket_shift, verbatim_shift;
  size_t verbatim_step;  // bytes that the verbatim bits of 16 values take
};

template <typename Entry>
Column column_of(const Entry& entry) {
  alignas(16) uint8_t low[16], high[16];
  for (size_t i = 0; i < 16; ++i) {
    low[i] = static_cast<uint8_t>(entry(i));
    high[i] = static_cast<uint8_t>(entry(i) >> 8);
  }
  const auto both = [](const uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  };
  return {both(low), both(high)};
}

Constants constants_of(const RansTable& table) {
  const int m = table.count_bits, verbatim = table.verbatim_bits;
  const auto of_row = [&](const auto& entry) {
    return column_of([&](size_t r) -> uint32_t {
      return r < table.rows.size() ? static_cast<uint32_t>(entry(table.rows[r])) : 0;
    });
  };
  const auto load = [](const void* p) {
    return _mm256_load_si256(static_cast<const __m256i*>(p));
  };
  const auto& halves = table.halves;
  const Spread& spread = kSpreads[static_cast<size_t>(verbatim)];
  return {
      column_of([&](size_t b) { return halves.bias[2 * b]; }),
      column_of([&](size_t b) { return halves.bias[2 * b + 1]; }),
      of_row([&](const RansRow& row) { return row.count - (1u << m); }),
      of_row([&](const RansRow& row) { return row.count << (16 - m - row.state_bits); }),
      of_row([](const RansRow& row) { return row.start; }),
      column_of([&](size_t b) { return halves.threshold[b]; }).low,
      column_of([&](size_t b) { return halves.second[b]; }).low,
      of_row([](const RansRow& row) { return 1u << (16 - row.state_bits); }).high,
      of_row([](const RansRow& row) { return (1u << row.state_bits) - 1; }).low,
      _mm256_set1_epi16(static_cast<int16_t>((1 << (m - 4)) - 1)),
      load(spread.bytes.data()),
      load(spread.factors.data()),
      _mm256_set1_epi16(static_cast<int16_t>(1 << verbatim)),
      _mm_cvtsi32_si128(m),
      _mm_cvtsi32_si128(m - 4),
      _mm_cvtsi32_si128(verbatim),
      2 * static_cast<size_t>(verbatim),
  };
}

// 16 lanes.
struct States {
  __m256i high, low;
};

inline __m256i unpack(int which, __m256i low_bytes, __m256i high_bytes) {
  return which == 0 ? _mm256_unpacklo_epi8(low_bytes, high_bytes)
                    : _mm256_unpackhi_epi8(low_bytes, high_bytes);
}

// The verbatim bits of 16 values.
inline __m256i load_verbatim(const Constants& c, const uint8_t* from) {
  const __m256i bytes =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i pairs = _mm256_shuffle_epi8(bytes, c.verbatim_bytes);
  return _mm256_mulhi_epu16(_mm256_mullo_epi16(pairs, c.verbatim_factors), c.verbatim_shift_back);
}

// The words of 16 lanes: those of `mask_a` from `words_a` on for lanes 0-7, likewise b for lanes 8-15.
inline __m256i deal(const uint8_t* words_a, uint32_t mask_a, const uint8_t* words_b,
                    uint32_t mask_b) {
  const auto load = [](const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  };
  const auto eight = [&](const uint8_t* words, uint32_t mask) {
    return _mm_shuffle_epi8(load(words), load(kDeal[mask].data()));
  };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(eight(words_a, mask_a)),
                                 eight(words_b, mask_b), 1);
}

// 32 bytes or 16 pairs of bytes, back through the remap.
template <Remap kRemap, typename Value>
inline __m256i unmap(__m256i values) {
  if constexpr (kRemap == Remap::identity) return values;
  const __m256i zero = _mm256_setzero_si256();
  if constexpr (sizeof(Value) == 2) {
    const __m256i half = _mm256_srli_epi16(values, 1);
    if constexpr (kRemap == Remap::sign_to_lsb)
      return _mm256_or_si256(half, _mm256_slli_epi16(values, 15));
    return _mm256_xor_si256(
        half, _mm256_sub_epi16(zero, _mm256_and_si256(values, _mm256_set1_epi16(1))));
  } else {
    const __m256i half =
        _mm256_and_si256(_mm256_srli_epi16(values, 1), _mm256_set1_epi8(0x7F));
    const __m256i low_bit = _mm256_and_si256(values, _mm256_set1_epi8(1));
    if constexpr (kRemap == Remap::sign_to_lsb)
      return _mm256_or_si256(half, _mm256_slli_epi16(low_bit, 7));
    return _mm256_xor_si256(half, _mm256_sub_epi8(zero, low_bit));
  }
}

// One step: decodes 32 values. The states are renormalised and `words` advanced. `active` are the lanes that
// there are, in the order of bytes.
template <typename Value, bool kVerbatim>
inline void step(const Constants& c, States* x, const uint8_t*& words, const uint8_t* verbatim,
                 uint32_t active, __m256i* values) {
  const __m256i zero = _mm256_setzero_si256(), low_byte = _mm256_set1_epi16(0xFF);
  const auto pack = [&](const auto& of) { return _mm256_packus_epi16(of(x[0]), of(x[1])); };
  const __m256i bucket = pack([&](const States& s) {
    return _mm256_and_si256(_mm256_srl_epi16(s.low, c.bucket_shift), _mm256_set1_epi16(15));
  });
  const __m256i within =
      pack([&](const States& s) { return _mm256_and_si256(s.low, c.within_mask); });
  const __m256i threshold = _mm256_shuffle_epi8(c.threshold, bucket);
  const __m256i above = _mm256_cmpeq_epi8(_mm256_max_epu8(within, threshold), within);
  const __m256i row =
      _mm256_blendv_epi8(bucket, _mm256_shuffle_epi8(c.second, bucket), above);
  const auto look_up = [&](const Column& column) -> Column {
    return {_mm256_shuffle_epi8(column.low, row), _mm256_shuffle_epi8(column.high, row)};
  };
  const auto bias_byte = [&](__m256i table_below, __m256i table_above) {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(table_below, bucket),
                              _mm256_shuffle_epi8(table_above, bucket), above);
  };
  const __m256i bias_low = bias_byte(c.bias_below.low, c.bias_above.low);
  const __m256i bias_high = bias_byte(c.bias_below.high, c.bias_above.high);
  const Column gains = look_up(c.gain), scales = look_up(c.scaled);
  const __m256i factors = _mm256_shuffle_epi8(c.factor, row);
  const __m256i masks = _mm256_shuffle_epi8(c.offset_mask, row);

  __m256i g[2], high[2], low[2], empty[2];
  for (int i = 0; i < 2; ++i) {
    const __m256i u = _mm256_srl_epi16(x[i].low, c.shift);
    g[i] = _mm256_add_epi16(_mm256_mullo_epi16(unpack(i, gains.low, gains.high), u),
                            _mm256_add_epi16(x[i].low, unpack(i, bias_low, bias_high)));
    const __m256i factor = unpack(i, zero, factors);
    const __m256i rest = _mm256_blendv_epi8(_mm256_mulhi_epu16(g[i], factor), g[i],
                                            _mm256_cmpeq_epi16(factor, zero));
    const __m256i scaled = unpack(i, scales.low, scales.high);
    low[i] = _mm256_add_epi16(_mm256_mullo_epi16(scaled, x[i].high), rest);
    const __m256i no_carry = _mm256_cmpeq_epi16(_mm256_max_epu16(low[i], rest), low[i]);
    const __m256i below = _mm256_add_epi16(_mm256_mulhi_epu16(scaled, x[i].high), no_carry);
    empty[i] = _mm256_cmpeq_epi16(below, _mm256_set1_epi16(-1));  // below is one too small
    high[i] = _mm256_sub_epi16(below, _mm256_set1_epi16(-1));
  }

  const uint32_t mask = active & static_cast<uint32_t>(_mm256_movemask_epi8(
                                     _mm256_packs_epi16(empty[0], empty[1])));
  const auto after = [&](uint32_t lanes) {
    return words + 2 * static_cast<size_t>(__builtin_popcount(mask & lanes));
  };
  const __m256i dealt[2] = {
      deal(words, mask & 0xFF, after(0x000000FF), mask >> 16 & 0xFF),
      deal(after(0x00FF00FF), mask >> 8 & 0xFF, after(0x00FFFFFF), mask >> 24)};
  words = after(0xFFFFFFFF);
  for (int i = 0; i < 2; ++i)
    x[i] = {_mm256_blendv_epi8(high[i], low[i], empty[i]),
            _mm256_blendv_epi8(low[i], dealt[i], empty[i])};

  if constexpr (sizeof(Value) == 1) {
    const __m256i offset = _mm256_and_si256(
        masks, _mm256_packus_epi16(_mm256_and_si256(g[0], low_byte), _mm256_and_si256(g[1], low_byte)));
    const __m256i value = _mm256_add_epi8(_mm256_shuffle_epi8(c.start.low, row), offset);
    values[0] = _mm256_permute4x64_epi64(value, 0b11011000);
  } else {
    const Column starts = look_up(c.start);
    for (int i = 0; i < 2; ++i) {
      __m256i offset = _mm256_and_si256(g[i], unpack(i, masks, zero));
      if constexpr (kVerbatim)
        offset = _mm256_or_si256(_mm256_sll_epi16(offset, c.verbatim_shift),
                                 load_verbatim(c, verbatim + (i ? c.verbatim_step : 0)));
      values[i] = _mm256_add_epi16(unpack(i, starts.low, starts.high), offset);
    }
  }
}

States load_states(const uint32_t* states) {
  const auto load = [&](int at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(states + at));
  };
  const __m256i a = load(0), b = load(8), low = _mm256_set1_epi32(0xFFFF);
  const auto join = [](__m256i p, __m256i q) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(p, q), 0b11011000);
  };
  return {join(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16)),
          join(_mm256_and_si256(a, low), _mm256_and_si256(b, low))};
}

void store_states(uint32_t* states, const States& x) {
  const __m256i a = _mm256_unpacklo_epi16(x.low, x.high), b = _mm256_unpackhi_epi16(x.low, x.high);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(states), _mm256_permute2x128_si256(a, b, 0x20));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(states + 8),
                      _mm256_permute2x128_si256(a, b, 0x31));
}

template <typename Value, bool kVerbatim, Remap kRemap, size_t kLanes>
size_t rounds(const RansTable& table, uint32_t* states, const uint8_t*& words_io,
              const uint8_t* words_end, const uint8_t* verbatim, Value* out, size_t n) {
  constexpr size_t steps = (kLanes + 31) / 32, pairs = kLanes / 16;
  constexpr uint32_t active = kLanes < 32 ? 0x00FF00FF : 0xFFFFFFFF;
  const Constants c = constants_of(table);
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  States x[2 * steps] = {};
  for (size_t p = 0; p < pairs; ++p) x[p] = load_states(states + 16 * p);
  // Before a step's last load of 8 words at most 24 of its lanes have taken one.
  constexpr size_t reach = 2 * 32 * steps;
  const uint8_t* words = words_io;
  size_t done = 0;
  for (; n - done >= kLanes && static_cast<size_t>(words_end - words) >= reach; done += kLanes)
    for (size_t s = 0; s < steps; ++s) {
      const size_t at = done + 32 * s;
      __m256i values[2];
      step<Value, kVerbatim>(c, x + 2 * s, words, verbatim + (kVerbatim ? at / 8 * bits : 0), active,
                             values);
      values[0] = unmap<kRemap, Value>(values[0]);
      if constexpr (sizeof(Value) == 2) values[1] = unmap<kRemap, Value>(values[1]);
      auto* const to = reinterpret_cast<__m256i*>(out + at);
      if constexpr (sizeof(Value) == 1 && kLanes < 32) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(values[0]));
      } else {
        _mm256_storeu_si256(to, values[0]);
        if constexpr (sizeof(Value) == 2 && kLanes >= 32) _mm256_storeu_si256(to + 1, values[1]);
      }
    }
  for (size_t p = 0; p < pairs; ++p) store_states(states + 16 * p, x[p]);
  words_io = words;
  return done;
}

}  // namespace

template <typename Value>
size_t rans_rounds_avx2(const RansTable& table, uint32_t* states, size_t lanes,
                        const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                        Remap remap, Value* out, size_t n, Xxh3Rounds*) {
  const auto run = [&]<bool kVerbatim, Remap kRemap>() {
    const auto go = [&]<size_t kLanes>() {
      return rounds<Value, kVerbatim, kRemap, kLanes>(table, states, words, words_end, verbatim, out,
                                                      n);
    };
    switch (lanes) {
      case 256: return go.template operator()<256>();
      case 128: return go.template operator()<128>();
      case 64: return go.template operator()<64>();
      case 32: return go.template operator()<32>();
      default: return go.template operator()<16>();
    }
  };
  const auto remapped = [&]<bool kVerbatim>() {
    switch (remap) {
      case Remap::sign_to_lsb: return run.template operator()<kVerbatim, Remap::sign_to_lsb>();
      case Remap::zigzag: return run.template operator()<kVerbatim, Remap::zigzag>();
      default: return run.template operator()<kVerbatim, Remap::identity>();
    }
  };
  if constexpr (sizeof(Value) == 2)
    if (verbatim) return remapped.template operator()<true>();
  return remapped.template operator()<false>();
}

template size_t rans_rounds_avx2(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                 const uint8_t*, const uint8_t*, Remap, uint8_t*, size_t, Xxh3Rounds*);
template size_t rans_rounds_avx2(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                 const uint8_t*, const uint8_t*, Remap, uint16_t*, size_t, Xxh3Rounds*);

}  // namespace fewbits

#endif
