// The rANS loop for any processor: eight lanes a step in the compilers' own vectors, which they turn into
// whatever instruction set there is. Entries are looked up and words dealt one by one.
//
// The arithmetic is that of rans_avx512.cpp, with every shift by the b offset bits of a row a product with
// factor = 2^(room - b), room = 16 - count bits: g >> b = (g * factor) >> room, scaled = count * factor.
//
// A round is three passes over the lanes, so that nothing is read as a vector just after it was written
// piece by piece, which processors do slowly.
#include <algorithm>
#include <cstring>

#include "planes.hpp"
#include "rans.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fewbits {

namespace {

constexpr size_t kTile = 8;

using Eight [[gnu::vector_size(16)]] = uint16_t;
using Two [[gnu::vector_size(16)]] = uint64_t;

Eight load(const uint16_t* from) {
  Eight to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

void store(uint16_t* to, Eight from) { std::memcpy(to, &from, sizeof from); }

// The high halves of the products of 16 bits.
Eight high_product(Eight a, Eight b) {
#if defined(__SSE2__)
  return reinterpret_cast<Eight>(
      _mm_mulhi_epu16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  using Wide [[gnu::vector_size(32)]] = uint32_t;
  return __builtin_convertvector(
      __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide) >> 16, Eight);
#endif
}

// Two registers dealt into each other.
#if defined(__clang__) || __GNUC__ >= 12
Eight zip_low(Eight a, Eight b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
Eight zip_high(Eight a, Eight b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
Eight zip_low(Eight a, Eight b) { return __builtin_shuffle(a, b, Eight{0, 8, 1, 9, 2, 10, 3, 11}); }
Eight zip_high(Eight a, Eight b) {
  return __builtin_shuffle(a, b, Eight{4, 12, 5, 13, 6, 14, 7, 15});
}
#endif

Eight choose(Eight mask, Eight yes, Eight no) { return (mask & yes) | (~mask & no); }

// The verbatim bits of eight values, `bits` each: the first four of them below, the others above, then
// pairs and then single values moved apart.
Eight spread(uint64_t packed, int bits) {
  const auto ones = [](int n) { return (uint64_t{1} << n) - 1; };
  const uint64_t pair = ones(2 * bits), one = ones(bits) * 0x0000000100000001;
  Two lanes = {packed & ones(4 * bits), packed >> (4 * bits) & ones(4 * bits)};
  lanes = (lanes & pair) | (lanes & pair << (2 * bits)) << (32 - 2 * bits);
  lanes = (lanes & one) | (lanes & one << bits) << (16 - bits);
  return reinterpret_cast<Eight>(lanes);
}

struct Fields {
  Eight masked_count, position, factor, start;
};

// Of the codes in eight lanes. Eight entries of four fields become four fields of eight by three shuffles
// as of a pack of cards, each of which makes the top bit of a card's place the lowest.
Fields look_up(const RansEntry* entries, const uint16_t* low, uint32_t mask) {
  const auto pair = [&](size_t i) {
    uint64_t first, second;
    std::memcpy(&first, &entries[low[i] & mask], 8);
    std::memcpy(&second, &entries[low[i + 1] & mask], 8);
    return reinterpret_cast<Eight>(Two{first, second});
  };
  Eight cards[4] = {pair(0), pair(2), pair(4), pair(6)};
  for (int times = 0; times < 3; ++times) {
    const Eight a = cards[0], b = cards[1], c = cards[2], d = cards[3];
    cards[0] = zip_low(a, c);
    cards[1] = zip_high(a, c);
    cards[2] = zip_low(b, d);
    cards[3] = zip_high(b, d);
  }
  return {cards[0], cards[1], cards[2], cards[3]};
}

struct Lanes {
  alignas(16) uint16_t high[kMaxLanes], low[kMaxLanes];  // halves of the states
  alignas(16) uint16_t taken[kMaxLanes];                 // bytes of words: 0 or 2
  alignas(16) uint16_t dealt[kMaxLanes];                 // what these are
};

inline void store_values(uint16_t* out, Eight values) { store(out, values); }
inline void store_values(uint8_t* out, Eight values) {
#if defined(__SSE2__)
  const __m128i bytes = reinterpret_cast<__m128i>(values & 0xFF);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(bytes, bytes));
#else
  for (size_t i = 0; i < kTile; ++i) out[i] = static_cast<uint8_t>(values[i]);
#endif
}

// One value of each of eight lanes, whose states are left as they are before they take words.
template <typename Value, bool kVerbatim, bool kOffsets>
inline void step(const RansEntry* entries, int m, int verbatim_bits, Lanes& lanes, size_t lane,
                 const uint8_t* verbatim, Value* out) {
  const int room = 16 - m;
  const uint32_t mask = (1u << m) - 1;
  const Fields f = look_up(entries, lanes.low + lane, mask);
  const Eight high = load(lanes.high + lane), low = load(lanes.low + lane);
  const Eight count = f.masked_count & static_cast<uint16_t>(mask);
  const Eight g = count * (low >> m) + f.position;
  // Where no row has offset bits in the state, factor is 2^room.
  const Eight rest = kOffsets ? high_product(g, f.factor) << m | (g * f.factor) >> room : g;
  const Eight scaled = kOffsets ? count * f.factor : count << room;
  const Eight new_low = scaled * high + rest;
  const Eight carry = reinterpret_cast<Eight>(new_low < rest);  // minus one where there is one
  const Eight new_high = high_product(scaled, high) - carry;
  store(lanes.high + lane, new_high);
  store(lanes.low + lane, new_low);
  store(lanes.taken + lane, reinterpret_cast<Eight>(new_high == 0) & 2);
  Eight offset = kOffsets ? g & f.masked_count >> m : Eight{};
  if constexpr (kVerbatim) {
    uint64_t packed;
    std::memcpy(&packed, verbatim, 8);
    offset = offset << verbatim_bits | spread(packed, verbatim_bits);
  }
  store_values(out, f.start + offset);
}

const uint8_t* deal(Lanes& lanes, size_t n, const uint8_t* words) {
  for (size_t lane = 0; lane < n; lane += kTile)
    for (size_t i = lane; i < lane + kTile; ++i) {
      std::memcpy(&lanes.dealt[i], words, 2);
      words += lanes.taken[i];
    }
  return words;
}

void take(Lanes& lanes, size_t lane) {
  const Eight high = load(lanes.high + lane), low = load(lanes.low + lane);
  const Eight empty = reinterpret_cast<Eight>(high == 0);
  store(lanes.high + lane, high | (empty & low));
  store(lanes.low + lane, choose(empty, load(lanes.dealt + lane), low));
}

}  // namespace

template <typename Value>
size_t rans_rounds_tiles(const RansTable& table, uint32_t* states, size_t lanes,
                         const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                         Remap remap, Value* out, size_t n, Xxh3Rounds*) {
  Lanes all;
  for (size_t lane = 0; lane < lanes; ++lane) {
    all.high[lane] = static_cast<uint16_t>(states[lane] >> 16);
    all.low[lane] = static_cast<uint16_t>(states[lane]);
  }
  const RansEntry* const entries = table.entries().data();
  const int m = table.count_bits, verbatim_bits = table.verbatim_bits;
  const bool offsets = std::any_of(table.rows.begin(), table.rows.end(),
                                   [](const RansRow& row) { return row.state_bits > 0; });
  const uint8_t* next = words;
  size_t done = 0;
  for (; n - done >= lanes && static_cast<size_t>(words_end - next) >= 2 * lanes; done += lanes) {
    for (size_t lane = 0; lane < lanes; lane += kTile) {
      const size_t at = done + lane;
      if (sizeof(Value) == 2 && verbatim)
        step<Value, true, true>(entries, m, verbatim_bits, all, lane,
                                verbatim + at / 8 * static_cast<size_t>(verbatim_bits), out + at);
      else if (offsets)
        step<Value, false, true>(entries, m, 0, all, lane, nullptr, out + at);
      else
        step<Value, false, false>(entries, m, 0, all, lane, nullptr, out + at);
    }
    next = deal(all, lanes, next);
    for (size_t lane = 0; lane < lanes; lane += kTile) take(all, lane);
  }
  for (size_t lane = 0; lane < lanes; ++lane)
    states[lane] = uint32_t{all.high[lane]} << 16 | all.low[lane];
  words = next;
  remap_inverse(remap, out, done);
  return done;
}

template size_t rans_rounds_tiles(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                  const uint8_t*, const uint8_t*, Remap, uint8_t*, size_t, Xxh3Rounds*);
template size_t rans_rounds_tiles(const RansTable&, uint32_t*, size_t, const uint8_t*&,
                                  const uint8_t*, const uint8_t*, Remap, uint16_t*, size_t, Xxh3Rounds*);

}  // namespace fewbits
