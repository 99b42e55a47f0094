// Encoding with rANS: the plain form of the loop, and the payload around it.
#include <algorithm>
#include <cstring>

#include "bits.hpp"
#include "dispatch.hpp"
#include "rans.hpp"

namespace fewbits {

namespace {

// What pushing leaves behind: lane states, verbatim bits, and words, which fill their memory from the end, so
// that they lie in the reader's order.
struct Pushed {
  size_t lanes;
  size_t coded;  // values that were pushed; the lanes began with those behind them
  uint32_t states[kMaxLanes];
  std::vector<uint16_t> memory;
  uint16_t* words;
  std::vector<uint8_t> verbatim;

  size_t shed() const { return static_cast<size_t>(memory.data() + memory.size() - words); }
};

// Pushes values first .. last - 1, last one first; the plain form of the loop. False if one has no row.
template <typename Value>
bool push_plain(const RansTable& table, const Value* values, size_t first, size_t last, Pushed& to) {
  const uint16_t* const row_of = table.source->row_of().data();
  const RansRow* const rows = table.rows.data();
  const uint16_t* const code_of = table.code_of().data();
  const int count_bits = table.count_bits, verbatim_bits = table.verbatim_bits;
  const size_t lane_mask = to.lanes - 1;
  uint16_t* words = to.words;
  for (size_t i = last; i-- > first;) {
    const uint16_t r = row_of[values[i]];
    if (r == kNoRow) return false;
    const RansRow& row = rows[r];
    const uint32_t state = to.states[i & lane_mask];
    words[-1] = static_cast<uint16_t>(state);
    // Arithmetic in place of a branch: whether a state sheds a word is as random as the data.
    const uint32_t sheds = state >= row.limit;
    words -= sheds;
    uint32_t x = state >> (16 * sheds);
    const uint32_t offset = (values[i] - row.start) >> (verbatim_bits + row.spill_bits);
    x = x << row.state_bits | offset;
    const auto quotient = static_cast<uint32_t>(
        static_cast<unsigned __int128>(x) * row.reciprocal >> 63);
    const uint32_t code = code_of[row.first_code + (x - quotient * row.count)];
    to.states[i & lane_mask] = (quotient << count_bits) + code;
  }
  to.words = words;
  return true;
}

// The low bits of the offsets of values first .. last - 1, into bits that are zero so far and a byte more.
template <typename Value>
void write_verbatim(const RansTable& table, const Value* values, size_t first, size_t last,
                    uint8_t* to) {
  const uint32_t mask = (1u << table.verbatim_bits) - 1;
  const std::vector<uint16_t>& row_of = table.source->row_of();
  for (size_t i = first; i < last; ++i) {
    const size_t bit = i * static_cast<size_t>(table.verbatim_bits);
    const uint32_t low = (values[i] - table.rows[row_of[values[i]]].start) & mask;
    uint16_t pair;
    std::memcpy(&pair, to + bit / 8, 2);
    pair = static_cast<uint16_t>(pair | low << bit % 8);
    std::memcpy(to + bit / 8, &pair, 2);
  }
}

// The vector form for this table and so many lanes; null where there is none.
template <typename Value>
RansPush<Value> choose_push(const RansTable& table, size_t lanes) {
#if defined(__x86_64__)
  if (table.vector_encode && simd() == Simd::avx512 && lanes >= 16) return rans_push_avx512<Value>;
  if (table.vector_encode && simd() == Simd::avx2 && lanes >= 8) return rans_push_avx2<Value>;
#endif
  return nullptr;
}

// Pushes values first .. last - 1, which one table codes: whole rounds in vectors where there are such, the
// rest one by one.
template <typename Value>
bool push_run(const RansTable& table, const Value* values, size_t first, size_t last, Pushed& to) {
  const RansPush<Value> push_vectors = choose_push<Value>(table, to.lanes);
  const size_t round = std::max<size_t>(to.lanes, 32);  // what vectors take at a time
  const size_t up = (first + round - 1) & ~(round - 1), down = last & ~(round - 1);
  const bool vectors = push_vectors && up < down;
  const size_t from = vectors ? up : last, until = vectors ? down : last;
  const auto plainly = [&](size_t a, size_t b) {
    if (!push_plain(table, values, a, b, to)) return false;
    if (table.verbatim_bits) write_verbatim(table, values, a, b, to.verbatim.data());
    return true;
  };
  if (!plainly(until, last)) return false;
  if (vectors && !push_vectors(table, table.push_columns(), values + from, until - from, to.lanes,
                               to.states, to.words,
                               to.verbatim.data() + from / 8 * static_cast<size_t>(table.verbatim_bits)))
    return false;
  return plainly(first, from);
}

// Lanes start out with the last values where there are enough.
template <typename Value>
size_t load_lanes(int width, const Value* values, size_t n, Pushed& to) {
  std::fill_n(to.states, to.lanes, kRansLow);
  const size_t loaded = to.lanes * values_a_lane(width);
  if (loaded > n) return 0;
  for (size_t i = 0; i < loaded; ++i)
    to.states[i & (to.lanes - 1)] |= uint32_t{values[n - loaded + i]}
                                     << (static_cast<size_t>(width) * (i / to.lanes));
  return loaded;
}

template <typename Value>
bool push(const std::vector<RansRun>& runs, const Value* values, size_t lanes, Pushed& to) {
  const RansTable& table = *runs.front().table;
  const size_t n = runs.back().end;
  to.lanes = lanes;
  to.coded = n - load_lanes(table.source->width, values, n, to);
  to.memory.resize(std::max(to.memory.size(), n + 16));  // at most a word a value, and 16 that vectors write
  to.words = to.memory.data() + to.memory.size();
  to.verbatim.assign((to.coded * static_cast<size_t>(table.verbatim_bits) + 7) / 8 + 1, 0);
  for (size_t r = runs.size(); r-- > 0;) {
    const size_t first = r ? runs[r - 1].end : 0, last = std::min(runs[r].end, to.coded);
    if (first < last && !push_run(*runs[r].table, values, first, last, to)) return false;
  }
  to.verbatim.pop_back();
  return true;
}

}  // namespace

template <typename Value>
bool rans_encode(const std::vector<RansRun>& runs, const Value* values, std::vector<uint8_t>& out) {
  thread_local Pushed pushed;  // its memory serves block after block
  const size_t n = runs.back().end;
  if (!push(runs, values, rans_lanes(n, SIZE_MAX), pushed)) return false;
  const size_t enough = rans_lanes(n, 2 * pushed.shed());
  if (enough < pushed.lanes)  // there is so little to code that this many lanes would show
    push(runs, values, enough, pushed);

  std::vector<uint8_t> spill;
  bool spills = false;
  BitWriterLsb writer(spill);
  for (size_t r = 0, i = 0; r < runs.size(); ++r) {
    const RansTable& table = *runs[r].table;
    spills |= table.spills;
    for (; table.spills && i < std::min(runs[r].end, pushed.coded); ++i) {
      const RansRow& row = table.rows[table.source->row_of()[values[i]]];
      writer.put((values[i] - row.start) & ((1u << row.spill_bits) - 1), row.spill_bits);
    }
    i = runs[r].end;
  }
  writer.flush();
  out.push_back(static_cast<uint8_t>(std::countr_zero(pushed.lanes)) |
                (pushed.coded < n ? kLoaded : uint8_t{0}));
  if (spills) append_u32(out, static_cast<uint32_t>(spill.size()));
  append(out, pushed.states, pushed.lanes * 4);
  append(out, pushed.verbatim.data(), pushed.verbatim.size());
  append(out, spill.data(), spill.size());
  append(out, pushed.words, pushed.shed() * 2);
  return true;
}

template bool rans_encode(const std::vector<RansRun>&, const uint8_t*, std::vector<uint8_t>&);
template bool rans_encode(const std::vector<RansRun>&, const uint16_t*, std::vector<uint8_t>&);

}  // namespace fewbits
