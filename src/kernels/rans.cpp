#include "rans.hpp"

#include <cstring>
#include <stdexcept>

#include "bits.hpp"
#include "dispatch.hpp"

namespace fewbits {

namespace {

// The alias method, in integers: which row owns each code. 2^count_bits codes lie in equal buckets;
// bucket b starts with row b's counts and is filled up from a row that has more than a bucket's worth.
// Both kinds of row wait on stacks, filled in ascending order of row, so the deal is the same
// everywhere. Reports each bucket's threshold and its two rows.
struct Deal {
  uint32_t bucket_size;
  std::vector<uint32_t> threshold, first, second;
};

Deal deal_codes(const std::vector<uint32_t>& counts, int count_bits) {
  const uint32_t buckets = std::max<uint32_t>(16, std::bit_ceil(counts.size()));
  if (buckets > 1u << count_bits)
    throw std::invalid_argument("rANS: more rows than codes; give the table more count bits");
  Deal deal{(1u << count_bits) / buckets, {}, {}, {}};
  std::vector<uint32_t> left = counts;
  left.resize(buckets, 0);
  deal.threshold.assign(buckets, deal.bucket_size);
  for (uint32_t b = 0; b < buckets; ++b) deal.first.push_back(b);
  deal.second = deal.first;
  std::vector<uint32_t> small, large;
  for (uint32_t b = 0; b < buckets; ++b)
    if (left[b] < deal.bucket_size) small.push_back(b);
    else if (left[b] > deal.bucket_size) large.push_back(b);
  while (!small.empty()) {
    const uint32_t bucket = small.back(), donor = large.back();
    small.pop_back();
    deal.threshold[bucket] = left[bucket];
    deal.second[bucket] = donor;
    left[donor] -= deal.bucket_size - left[bucket];
    if (left[donor] > deal.bucket_size) continue;
    large.pop_back();
    if (left[donor] < deal.bucket_size) small.push_back(donor);
  }
  return deal;
}

struct Widths {
  uint8_t state, spill;
};

Widths offset_widths(uint32_t offset_length, int count_bits, int verbatim_bits) {
  const int room = 16 - count_bits;
  const int rest = std::max<int>(0, static_cast<int>(offset_length) - verbatim_bits);
  if (verbatim_bits && rest > room)
    throw std::invalid_argument("rANS: a row is too wide for its count bits and verbatim bits");
  const int state = std::min(rest, room);
  return {static_cast<uint8_t>(state), static_cast<uint8_t>(rest - state)};
}

}  // namespace

RansTable::RansTable(const RangeTable& table, int verbatim_bits_)
    : count_bits(table.count_bits), verbatim_bits(verbatim_bits_), row_of(table.row_of) {
  if (verbatim_bits < 0 || verbatim_bits > (table.width == 16 ? 8 : 0))
    throw std::invalid_argument("rANS: verbatim bits are 0 to 8, and only for 16-bit values");
  std::vector<uint32_t> counts = table.counts;
  const uint32_t total = 1u << count_bits, sum = table.cumulative.back();
  auto owner = counts.end();
  for (auto it = counts.begin(); it != counts.end(); ++it)
    if (*it) owner = it;
  if (owner == counts.end() || total - sum > 1)
    throw std::invalid_argument("rANS: counts do not sum to a power of two (or one less)");
  *owner += total - sum;  // a table as the paper writes it leaves one code; its last row takes it
  // A row that owns every code leaves its states as they are, whatever the code size; its count must
  // still fit the 16 bits of a slot.
  const bool alone = *owner == total;
  if (alone && count_bits == 16) {
    count_bits = 15;
    *owner /= 2;
  }

  const Deal deal = deal_codes(counts, count_bits);
  for (size_t r = 0; r < counts.size(); ++r) {
    const Widths widths = offset_widths(table.offset_lengths[r], table.count_bits, verbatim_bits);
    spills |= counts[r] && widths.spill;
    rows.push_back({counts[r] ? ((uint64_t{1} << 63) + counts[r] - 1) / counts[r] : 0,
                    uint64_t{counts[r]} << (32 - count_bits - widths.state), counts[r],
                    table.starts[r], r ? rows[r - 1].first_code + counts[r - 1] : 0, widths.state,
                    widths.spill});
  }
  const uint32_t codes = 1u << count_bits;
  slots.resize(codes);
  code_of.resize(codes);
  std::vector<uint32_t> seen(counts.size(), 0);
  for (uint32_t code = 0; code < codes; ++code) {
    const uint32_t bucket = code / deal.bucket_size;
    const bool lower = code % deal.bucket_size < deal.threshold[bucket];
    const uint32_t r = lower ? deal.first[bucket] : deal.second[bucket];
    const uint32_t position = seen[r]++;
    code_of[rows[r].first_code + position] = static_cast<uint16_t>(code);
    slots[code] = {static_cast<uint16_t>(rows[r].count), static_cast<uint16_t>(position),
                   static_cast<uint16_t>(rows[r].start), rows[r].state_bits, rows[r].spill_bits};
  }
  vectorizable = !spills && count_bits <= 12 && deal.threshold.size() == 16 && !alone;
  compact = vectorizable && table.width <= 8 && count_bits <= 10;
  for (uint32_t b = 0; vectorizable && b < 16; ++b) {
    const auto entry = [&](uint32_t r, uint32_t code, uint32_t within) {
      const uint32_t bias = (slots[code].position - within) & (codes - 1);
      if (compact)
        return rows[r].state_bits | rows[r].start << 4 | bias << 12 | rows[r].count << 22;
      return r | bias << 4 | rows[r].count << 16 | uint32_t{rows[r].state_bits} << 28;
    };
    const uint32_t base = b * deal.bucket_size, threshold = deal.threshold[b];
    thresholds[b] = threshold;
    if (threshold) first[b] = entry(deal.first[b], base, 0);
    if (threshold < deal.bucket_size)
      second[b] = entry(deal.second[b], base + threshold, threshold);
    if (b < rows.size()) starts[b] = rows[b].start;
  }
}

namespace {

// Pushes the values, last first; words fill `words` from the back. Returns where they start, or npos if
// a value has no row.
constexpr size_t npos = SIZE_MAX;

template <typename Value>
size_t push_values(const RansTable& table, const Value* values, size_t n, size_t lanes,
                   uint32_t* states, std::vector<uint16_t>& words) {
  std::fill_n(states, lanes, kRansLow);
  size_t top = n;
  for (size_t i = n; i-- > 0;) {
    const uint16_t r = table.row_of[values[i]];
    if (r == kNoRow) return npos;
    const RansRow& row = table.rows[r];
    uint32_t x = states[i & (lanes - 1)];
    words[top - 1] = static_cast<uint16_t>(x);
    const uint32_t sheds = x >= row.limit;
    top -= sheds;
    x >>= 16 * sheds;
    const uint32_t offset = (values[i] - row.start) >> (table.verbatim_bits + row.spill_bits);
    x = x << row.state_bits | offset;
    const auto quotient = static_cast<uint32_t>(
        static_cast<unsigned __int128>(x) * row.reciprocal >> 63);
    const uint32_t code = table.code_of[row.first_code + (x - quotient * row.count)];
    states[i & (lanes - 1)] = (quotient << table.count_bits) + code;
  }
  return top;
}

}  // namespace

template <typename Value>
bool rans_encode(const RansTable& table, const Value* values, size_t n, std::vector<uint8_t>& out) {
  uint32_t states[kMaxLanes];
  std::vector<uint16_t> words(n);  // at most one a value
  size_t lanes = rans_lanes(n, SIZE_MAX);
  size_t top = push_values(table, values, n, lanes, states, words);
  if (top == npos) return false;
  if (const size_t enough = rans_lanes(n, 2 * (n - top)); enough < lanes) {
    lanes = enough;  // there is so little to code that this many lanes would show
    top = push_values(table, values, n, lanes, states, words);
  }

  std::vector<uint8_t> verbatim, spill;
  if (table.verbatim_bits) {
    BitWriterLsb writer(verbatim);
    const uint32_t mask = (1u << table.verbatim_bits) - 1;
    for (size_t i = 0; i < n; ++i)
      writer.put((values[i] - table.rows[table.row_of[values[i]]].start) & mask,
                 table.verbatim_bits);
    writer.flush();
  }
  if (table.spills) {
    BitWriterLsb writer(spill);
    for (size_t i = 0; i < n; ++i) {
      const RansRow& row = table.rows[table.row_of[values[i]]];
      writer.put((values[i] - row.start) & ((1u << row.spill_bits) - 1), row.spill_bits);
    }
    writer.flush();
  }
  out.push_back(static_cast<uint8_t>(std::countr_zero(lanes)));
  if (table.spills) append_u32(out, static_cast<uint32_t>(spill.size()));
  append(out, states, lanes * 4);
  append(out, verbatim.data(), verbatim.size());
  append(out, spill.data(), spill.size());
  append(out, words.data() + top, (n - top) * 2);
  return true;
}

namespace {

// The plain form of the loop. Everything in the vector files must equal this.
template <typename Value>
size_t rounds_portable(const RansTable& table, uint32_t* states, size_t lanes,
                       const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                       Value* out, size_t n) {
  const RansSlot* const slots = table.slots.data();
  const uint32_t mask = (1u << table.count_bits) - 1;
  const int shift = table.count_bits, verbatim_bits = table.verbatim_bits;
  const uint32_t verbatim_mask = (1u << verbatim_bits) - 1;
  const uint8_t* next = words;
  size_t done = 0;
  while (n - done >= lanes && static_cast<size_t>(words_end - next) >= 2 * lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      uint32_t x = states[lane];
      const RansSlot slot = slots[x & mask];
      x = slot.count * (x >> shift) + slot.position;
      uint32_t value = x & ((1u << slot.state_bits) - 1);
      x >>= slot.state_bits;
      if constexpr (sizeof(Value) == 2)
        if (verbatim) {
          const size_t bit = (done + lane) * static_cast<size_t>(verbatim_bits);
          uint16_t pair;
          std::memcpy(&pair, verbatim + bit / 8, 2);
          value = value << verbatim_bits | (uint32_t{pair} >> bit % 8 & verbatim_mask);
        }
      out[done + lane] = static_cast<Value>(slot.start + value);
      uint16_t word;
      std::memcpy(&word, next, 2);
      // Arithmetic in place of a branch: whether a lane needs a word is as random as the data.
      const uint32_t low = x < kRansLow;
      states[lane] = x << (16 * low) | (word & (0u - low));
      next += 2 * low;
    }
    done += lanes;
  }
  words = next;
  return done;
}

template <typename Value>
RansRounds<Value> choose_rounds(const RansTable& table, size_t lanes) {
#if defined(__x86_64__)
  if (table.vectorizable && simd() == Simd::avx512 && lanes >= 16) return rans_rounds_avx512<Value>;
  if (table.vectorizable && simd() == Simd::avx2 && lanes >= 8) return rans_rounds_avx2<Value>;
#endif
  return rounds_portable<Value>;
}

}  // namespace

template <typename Value>
bool RansReader<Value>::open(const uint8_t* data, size_t size, size_t n) {
  end_ = data + size;
  if (size < 1 || *data > std::countr_zero(kMaxLanes)) return false;
  lanes_ = size_t{1} << *data++;
  size_t spill_size = 0;
  if (table_.spills) {
    if (end_ - data < 4) return false;
    spill_size = read_u32(data);
    data += 4;
  }
  verbatim_size_ = (n * static_cast<size_t>(table_.verbatim_bits) + 7) / 8;
  if (static_cast<size_t>(end_ - data) < 4 * lanes_ + verbatim_size_ + spill_size) return false;
  std::memcpy(states_, data, 4 * lanes_);
  verbatim_ = data + 4 * lanes_;
  spill_ = BitReaderLsb(verbatim_ + verbatim_size_, spill_size);
  words_ = verbatim_ + verbatim_size_ + spill_size;
  n_ = n;
  rounds_ = table_.spills ? nullptr : choose_rounds<Value>(table_, lanes_);
  return (end_ - words_) % 2 == 0;
}

template <typename Value>
bool RansReader<Value>::read(Value* out, size_t count) {
  const auto bits = static_cast<size_t>(table_.verbatim_bits);
  size_t done = 0;
  if (rounds_)
    done = rounds_(table_, states_, lanes_, words_, end_,
                   bits ? verbatim_ + done_ * bits / 8 : nullptr, out, count);
  const uint32_t mask = (1u << table_.count_bits) - 1;
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip((done_ + done) * bits);
  for (; done < count; ++done) {  // what is left, every step checked
    uint32_t& state = states_[done & (lanes_ - 1)];
    const RansSlot slot = table_.slots[state & mask];
    uint32_t x = slot.count * (state >> table_.count_bits) + slot.position;
    uint32_t offset = x & ((1u << slot.state_bits) - 1);
    x >>= slot.state_bits;
    if (bits) offset = offset << bits | verbatim.get(table_.verbatim_bits);
    if (slot.spill_bits) offset = offset << slot.spill_bits | spill_.get(slot.spill_bits);
    out[done] = static_cast<Value>(slot.start + offset);
    if (x < kRansLow) {
      if (words_ == end_) return false;
      uint16_t word;
      std::memcpy(&word, words_, 2);
      x = x << 16 | word;
      words_ += 2;
    }
    state = x;
  }
  done_ += count;
  return true;
}

template <typename Value>
bool RansReader<Value>::finished() const {
  const bool all_home =
      std::all_of(states_, states_ + lanes_, [](uint32_t x) { return x == kRansLow; });
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip(n_ * static_cast<size_t>(table_.verbatim_bits));
  return done_ == n_ && all_home && words_ == end_ && spill_.finished() && verbatim.finished();
}

template class RansReader<uint8_t>;
template class RansReader<uint16_t>;
template bool rans_encode(const RansTable&, const uint8_t*, size_t, std::vector<uint8_t>&);
template bool rans_encode(const RansTable&, const uint16_t*, size_t, std::vector<uint8_t>&);

}  // namespace fewbits
