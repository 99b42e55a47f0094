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
  alone = *owner == total;
  if (alone && count_bits == 16) {
    count_bits = 15;
    *owner /= 2;
  }

  const Deal deal = deal_codes(counts, count_bits);
  for (size_t r = 0; r < counts.size(); ++r) {
    const Widths widths = offset_widths(table.offset_lengths[r], table.count_bits, verbatim_bits);
    spills |= counts[r] && widths.spill;
    has_offsets |= widths.state > 0;
    rows.push_back({counts[r] ? ((uint64_t{1} << 63) + counts[r] - 1) / counts[r] : 0,
                    uint64_t{counts[r]} << (32 - count_bits - widths.state), counts[r],
                    table.starts[r], r ? rows[r - 1].first_code + counts[r - 1] : 0, widths.state,
                    widths.spill});
  }
  bucket_bits = std::countr_zero(deal.bucket_size);
  thresholds = deal.threshold;
  std::vector<uint32_t> dealt(deal.threshold.size(), 0);  // so many codes of each row so far
  for (uint32_t b = 0; b < thresholds.size(); ++b) {
    const uint32_t base = b << bucket_bits, upper = deal.bucket_size - thresholds[b];
    pieces.push_back({base, deal.first[b], dealt[deal.first[b]]});
    dealt[deal.first[b]] += thresholds[b];
    pieces.push_back({base + thresholds[b], deal.second[b], dealt[deal.second[b]]});
    dealt[deal.second[b]] += upper;
  }
  vectorizable = !spills && count_bits <= 15 && thresholds.size() == 16 && !alone;
  // With fewer count bits a quotient could exceed what a float holds exactly.
  vector_encode = vectorizable && count_bits >= 10 && count_bits <= 12;
  if (vectorizable) lay_out_vectors();
}

void RansTable::lay_out_vectors() {
  const uint32_t size = 1u << bucket_bits;
  for (uint32_t b = 0; b < 16; ++b) {
    const uint32_t delta = (b << bucket_bits) + size - thresholds[b];
    halves.delta[b] = static_cast<uint16_t>(delta);
    halves.delta[b + 16] = static_cast<uint16_t>(delta - (1u << count_bits));
    const auto enter = [&](uint32_t half, const Piece& piece) {
      const RansRow& row = rows[piece.row];
      const int room = 16 - count_bits;
      halves.bias[half] = static_cast<uint16_t>(piece.position - piece.code);
      halves.count[half] = static_cast<uint16_t>(row.count);
      halves.scaled[half] = static_cast<uint16_t>(row.count << (room - row.state_bits));
      halves.state_bits[half] = row.state_bits;
      halves.start[half] = static_cast<uint16_t>(row.start);
    };
    const bool whole = thresholds[b] == size;  // then its own row is its second, too
    if (thresholds[b]) enter(2 * b, pieces[2 * b]);
    enter(2 * b + 1, pieces[2 * b + !whole]);
    halves.threshold[b] = static_cast<uint8_t>(thresholds[b]);
    halves.second[b] = static_cast<uint8_t>(pieces[2 * b + 1].row);
  }
}

const std::vector<RansSlot>& RansTable::slots() const {
  return slots_.get([this] {
    std::vector<RansSlot> slots(size_t{1} << count_bits);
    for (uint32_t code = 0; code < slots.size(); ++code) slots[code] = slot_of(code);
    return slots;
  });
}

const std::vector<RansEntry>& RansTable::entries() const {
  return entries_.get([this] {
    std::vector<RansEntry> entries(size_t{1} << count_bits);
    for (uint32_t code = 0; code < entries.size(); ++code) {
      const RansSlot slot = slot_of(code);
      entries[code] = {
          static_cast<uint16_t>(((1u << slot.state_bits) - 1) << count_bits | slot.count),
          slot.position, static_cast<uint16_t>(1u << (16 - count_bits - slot.state_bits)),
          slot.start};
    }
    return entries;
  });
}

const std::vector<uint16_t>& RansTable::code_of() const {
  return code_of_.get([this] {
    std::vector<uint16_t> codes(size_t{1} << count_bits);
    for (uint32_t p = 0; p < pieces.size(); ++p) {
      const Piece& piece = pieces[p];
      const uint32_t end = p + 1 < pieces.size() ? pieces[p + 1].code : 1u << count_bits;
      for (uint32_t code = piece.code; code < end; ++code)
        codes[rows[piece.row].first_code + piece.position + (code - piece.code)] =
            static_cast<uint16_t>(code);
    }
    return codes;
  });
}

}  // namespace fewbits
