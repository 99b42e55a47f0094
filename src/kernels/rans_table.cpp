// How a range table becomes a rANS table: codes dealt to rows, offsets divided up, vectors laid out.
#include <stdexcept>

#include "rans.hpp"

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
    : count_bits(table.count_bits), verbatim_bits(verbatim_bits_), source(&table) {
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
  if (!spills && !alone)
    for (const RansSlot& slot : slots)
      entries.push_back({static_cast<uint16_t>(((1u << slot.state_bits) - 1) << count_bits | slot.count),
                         slot.position,
                         static_cast<uint16_t>(1u << (16 - count_bits - slot.state_bits)), slot.start});
  vectorizable = !spills && count_bits <= 15 && deal.threshold.size() == 16 && !alone;
  for (uint32_t b = 0; vectorizable && b < 16; ++b) {
    const uint32_t base = b * deal.bucket_size, threshold = deal.threshold[b];
    halves.delta[b] = halves.delta[b + 16] =
        static_cast<uint16_t>(base + deal.bucket_size - threshold);
    const auto enter = [&](uint32_t half, uint32_t r, uint32_t code) {
      const int room = 16 - count_bits;
      halves.bias[half] = static_cast<uint16_t>(slots[code].position - code);
      halves.count[half] = static_cast<uint16_t>(rows[r].count);
      halves.scaled[half] = static_cast<uint16_t>(rows[r].count << (room - rows[r].state_bits));
      halves.state_bits[half] = rows[r].state_bits;
      halves.start[half] = static_cast<uint16_t>(rows[r].start);
    };
    if (threshold) enter(2 * b, deal.first[b], base);
    // A bucket that its own row fills has that row as its second, too.
    enter(2 * b + 1, deal.second[b], base + (threshold < deal.bucket_size ? threshold : 0));
    halves.threshold[b] = static_cast<uint8_t>(threshold);
    halves.second[b] = static_cast<uint8_t>(deal.second[b]);
  }

  // With fewer count bits a quotient could exceed what a float holds exactly.
  vector_encode = vectorizable && count_bits >= 10 && count_bits <= 12;
}

}  // namespace fewbits
