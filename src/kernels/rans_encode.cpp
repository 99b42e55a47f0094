// Encoding with rANS: the plain form of the loop, and the payload around it.
#include <algorithm>
#include <cstring>

#include "bits.hpp"
#include "dispatch.hpp"
#include "rans.hpp"

namespace fewbits {

namespace {

// What pushing leaves behind: words in the order they were shed (the reader's order backwards), lane
// states, verbatim bits.
struct Pushed {
  size_t lanes;
  uint32_t states[kMaxLanes];
  std::vector<uint16_t> words;  // the first `shed` of them
  size_t shed;
  std::vector<uint8_t> verbatim;
};

// Pushes values first .. last - 1, last one first; the plain form of the loop. False if one has no row.
template <typename Value>
bool push_plain(const RansTable& table, const Value* values, size_t first, size_t last, Pushed& to) {
  const std::vector<uint16_t>& row_of = table.source->row_of();
  for (size_t i = last; i-- > first;) {
    const uint16_t r = row_of[values[i]];
    if (r == kNoRow) return false;
    const RansRow& row = table.rows[r];
    uint32_t& state = to.states[i & (to.lanes - 1)];
    to.words[to.shed] = static_cast<uint16_t>(state);
    const uint32_t sheds = state >= row.limit;
    to.shed += sheds;
    uint32_t x = state >> (16 * sheds);
    const uint32_t offset = (values[i] - row.start) >> (table.verbatim_bits + row.spill_bits);
    x = x << row.state_bits | offset;
    const auto quotient = static_cast<uint32_t>(
        static_cast<unsigned __int128>(x) * row.reciprocal >> 63);
    const uint32_t code = table.code_of[row.first_code + (x - quotient * row.count)];
    state = (quotient << table.count_bits) + code;
  }
  return true;
}

// The low bits of the offsets of values first .. last - 1; `first` starts a byte.
template <typename Value>
void write_verbatim(const RansTable& table, const Value* values, size_t first, size_t last,
                    std::vector<uint8_t>& out) {
  out.resize(first * static_cast<size_t>(table.verbatim_bits) / 8);
  BitWriterLsb writer(out);
  const uint32_t mask = (1u << table.verbatim_bits) - 1;
  const std::vector<uint16_t>& row_of = table.source->row_of();
  for (size_t i = first; i < last; ++i)
    writer.put((values[i] - table.rows[row_of[values[i]]].start) & mask, table.verbatim_bits);
  writer.flush();
}

template <typename Value>
bool push(const RansTable& table, const Value* values, size_t n, size_t lanes, Pushed& to) {
  to.lanes = lanes;
  std::fill_n(to.states, lanes, kRansLow);
  to.words.resize(std::max(to.words.size(), n + 16));  // at most one a value; vectors write 16
  to.shed = 0;
  size_t whole = 0;
#if defined(__x86_64__)
  if (table.vector_encode && simd() == Simd::avx512 && lanes >= 16) whole = n - n % lanes;
#endif
  if (!push_plain(table, values, whole, n, to)) return false;
  to.verbatim.clear();
  if (table.verbatim_bits) write_verbatim(table, values, whole, n, to.verbatim);
#if defined(__x86_64__)
  if (whole && !rans_push_avx512(table, values, whole, lanes, to.states, to.words.data(), to.shed,
                                 to.verbatim.data()))
    return false;
#endif
  return true;
}

}  // namespace

template <typename Value>
bool rans_encode(const RansTable& table, const Value* values, size_t n, std::vector<uint8_t>& out) {
  thread_local Pushed pushed;  // its memory serves block after block
  if (!push(table, values, n, rans_lanes(n, SIZE_MAX), pushed)) return false;
  const size_t enough = rans_lanes(n, 2 * pushed.shed);
  if (enough < pushed.lanes)  // there is so little to code that this many lanes would show
    push(table, values, n, enough, pushed);

  std::vector<uint8_t> spill;
  if (table.spills) {
    BitWriterLsb writer(spill);
    for (size_t i = 0; i < n; ++i) {
      const RansRow& row = table.rows[table.source->row_of()[values[i]]];
      writer.put((values[i] - row.start) & ((1u << row.spill_bits) - 1), row.spill_bits);
    }
    writer.flush();
  }
  out.push_back(static_cast<uint8_t>(std::countr_zero(pushed.lanes)));
  if (table.spills) append_u32(out, static_cast<uint32_t>(spill.size()));
  append(out, pushed.states, pushed.lanes * 4);
  append(out, pushed.verbatim.data(), pushed.verbatim.size());
  append(out, spill.data(), spill.size());
  std::reverse(pushed.words.begin(), pushed.words.begin() + static_cast<ptrdiff_t>(pushed.shed));
  append(out, pushed.words.data(), pushed.shed * 2);
  return true;
}

template bool rans_encode(const RansTable&, const uint8_t*, size_t, std::vector<uint8_t>&);
template bool rans_encode(const RansTable&, const uint16_t*, size_t, std::vector<uint8_t>&);

}  // namespace fewbits
