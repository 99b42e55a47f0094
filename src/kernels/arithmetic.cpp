// The arithmetic coder: twists first, then the plain form.
//
// * The window is LO and HI of 16 bits, yet range = HI - LO + 1 takes 17: it starts at 0x10000.
//   HI is never stored here: it is LO + range - 1, and shifting ones into HI while zeros go into LO is
//   the same as shifting the range.
// * Cumulative counts are exclusive, so HI ends one below where the next row starts: the -1 below.
// * A step drops `prefix` leading bits that LO and HI share (they can no longer change: output), then
//   `underflow` bits below the top one where LO reads 1 and HI reads 0 (LO = 011..., HI = 100...).
//   An underflow bit is not known yet, only that it is the inverse of the next bit put out; the
//   encoder counts them (UBC) and pays them back then. The count has no bound, 5 bits do not do.
//   After both drops the top bits differ, so one pass is enough: no loop over bits.
// * The decoder need not follow CODE itself: `ahead` = CODE - LO scales with the window exactly as the
//   range does, underflow included.
// * The flush writes UBC + 2 bits, which makes the symbol stream exactly (bits dropped + 2) long. So the
//   decoder knows where the stream must end, and that CODE must then read 0x4000 or 0x8000.
#include "arithmetic.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace fewbits {
namespace {

constexpr uint32_t kWindowBits = 16;
constexpr uint32_t kQuarter = 1u << (kWindowBits - 2);
constexpr uint64_t kWordBits = 32;
constexpr size_t kLengthBytes = 4;

uint64_t bytes_of_whole_words(uint64_t bits) { return (bits + kWordBits - 1) / kWordBits * 4; }

struct Row {
  uint16_t low, high;  // cumulative counts, high exclusive
  uint16_t start;
  uint16_t reach;  // largest offset of a value in the row
  uint32_t offset_length;
};

// What the inner loops need of the rows, side by side.
std::vector<Row> rows_of(const RangeTable& table) {
  std::vector<Row> rows(table.rows());
  for (size_t row = 0; row < rows.size(); ++row) {
    const uint32_t start = table.starts[row];
    const uint32_t next = row + 1 < rows.size() ? table.starts[row + 1] : 1u << table.width;
    const uint32_t reach = std::min((1u << table.offset_lengths[row]) - 1, next - start - 1);
    rows[row] = {static_cast<uint16_t>(table.cumulative[row]),
                 static_cast<uint16_t>(table.cumulative[row + 1]), static_cast<uint16_t>(start),
                 static_cast<uint16_t>(reach), table.offset_lengths[row]};
  }
  return rows;
}

// What one symbol did to the window: bits dropped for either reason, and what was below the row.
struct Step {
  uint32_t prefix, underflow, shift;  // shift = prefix + underflow
  uint32_t top;                       // HI before the drops: its first bits are the prefix
  uint32_t below;                     // codes of the window below the row's first
};

struct Window {
  uint32_t low = 0;
  uint32_t range = 1u << kWindowBits;

  Step narrow(const Row& row, int count_bits) {
    Step step;
    step.below = (range * row.low) >> count_bits;
    const uint32_t end = (range * row.high) >> count_bits;
    const uint32_t bottom = low + step.below;
    step.top = low + end - 1;
    // The marker bit makes 16 equal bits count as 16.
    step.prefix = std::countl_zero((bottom ^ step.top) << 16 | 0x8000u);
    step.underflow = std::countl_one(((bottom & ~step.top) << 16) << (step.prefix + 1));
    step.shift = step.prefix + step.underflow;
    low = (bottom << step.shift) & 0x7FFF;  // the top bit of LO is 0 once the window has settled
    range = (end - step.below) << step.shift;
    return step;
  }

  // The code that the flush leaves in the window: 01 or 10, then zeros.
  uint32_t flush_code() const { return low < kQuarter ? kQuarter : 2 * kQuarter; }
};

class BitWriter {
 public:
  explicit BitWriter(std::vector<uint8_t>& bytes)
      : bytes_(bytes), data_(bytes.data()), room_(bytes.size()), next_(bytes.size()) {}

  // Appends the low `count` bits of `bits`, at most 48; the bits above must be zero.
  void put(uint64_t bits, uint32_t count) {
    if (next_ + 8 > room_) grow();
    pending_ = pending_ << count | bits;
    pending_bits_ += count;
    const uint64_t aligned = (pending_ << 1) << (63 - pending_bits_);
    for (int byte = 0; byte < 8; ++byte)  // one store; the bytes past `next_` are rewritten later
      data_[next_ + byte] = static_cast<uint8_t>(aligned >> (56 - 8 * byte));
    next_ += pending_bits_ / 8;
    pending_bits_ %= 8;
  }

  // Appends `bit`, then its inverse `inverses` times.
  void put_with_underflow(uint32_t bit, uint64_t inverses) {
    put(bit, 1);
    constexpr uint32_t kChunk = 32;
    const uint64_t run = bit ? 0 : (uint64_t{1} << kChunk) - 1;
    for (; inverses >= kChunk; inverses -= kChunk) put(run, kChunk);
    put(run >> (kChunk - inverses), static_cast<uint32_t>(inverses));
  }

  // Pads with zeros to whole words counted from `begin` and cuts the vector there.
  void finish(size_t begin) {
    const uint64_t used = (next_ - begin) * 8 + pending_bits_;
    put(0, static_cast<uint32_t>(bytes_of_whole_words(used) * 8 - used));
    bytes_.resize(next_);
  }

 private:
  void grow() {
    bytes_.resize(bytes_.size() * 2 + 256);
    data_ = bytes_.data();
    room_ = bytes_.size();
  }

  std::vector<uint8_t>& bytes_;
  uint8_t* data_;
  size_t room_;
  size_t next_;
  uint64_t pending_ = 0;  // the bits above the last pending_bits_ are stale
  uint32_t pending_bits_ = 0;
};

class BitReader {
 public:
  BitReader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // The next `count` bits, at most 32; zeros past the end.
  uint32_t take(uint32_t count) {
    const uint64_t window = load(position_ / 8) << (position_ % 8);
    position_ += count;
    return static_cast<uint32_t>((window >> 32) >> (32 - count));
  }

  uint64_t position() const { return position_; }

  // Whether every bit not yet taken is zero.
  bool rest_is_zero() {
    while (position_ < uint64_t{size_} * 8)
      if (take(32)) return false;
    return true;
  }

 private:
  uint64_t load(uint64_t at) const {
    uint64_t word = 0;
    if (at + 8 <= size_) {
      for (int byte = 0; byte < 8; ++byte) word = word << 8 | data_[at + byte];
    } else {
      for (int byte = 0; byte < 8; ++byte) word = word << 8 | (at + byte < size_ ? data_[at + byte] : 0);
    }
    return word;
  }

  const uint8_t* data_;
  size_t size_;
  uint64_t position_ = 0;  // in bits
};

// Rows of all codes 0 .. 2^count_bits - 1; kNoRow where no row owns the code.
std::vector<uint16_t> rows_of_codes(const RangeTable& table) {
  std::vector<uint16_t> row_of_code(size_t{1} << table.count_bits, kNoRow);
  for (size_t row = 0; row < table.rows(); ++row)
    std::fill(row_of_code.begin() + table.cumulative[row],
              row_of_code.begin() + table.cumulative[row + 1], static_cast<uint16_t>(row));
  return row_of_code;
}

// The two streams of `values`; the symbols go to `symbols`, the offsets to `offsets`.
template <typename Value>
bool encode_streams(const Value* values, size_t n, const RangeTable& table, BitWriter& symbols,
                    BitWriter& offsets) {
  const std::vector<Row> rows = rows_of(table);
  const std::vector<uint16_t>& row_of = table.row_of();
  Window window;
  uint64_t outstanding = 0;  // UBC: underflow bits not yet written
  for (size_t i = 0; i < n; ++i) {
    const uint32_t value = values[i];
    if (value >= row_of.size() || row_of[value] == kNoRow) return false;
    const Row& row = rows[row_of[value]];
    offsets.put(value - row.start, row.offset_length);
    const Step step = window.narrow(row, table.count_bits);
    if (outstanding < 32) {
      // The first bit of the prefix, its inverses, the rest of the prefix, as one number: a 1 followed
      // by zeros or a 0 followed by ones is 2^outstanding - 1 + bit. Without branches, since whether a
      // step has a prefix is as random as the data.
      const bool some = step.prefix != 0;
      const uint64_t inverses = (((uint64_t{1} << outstanding) - 1) << step.prefix) >> 1;
      const uint64_t bits = inverses + (step.top >> (kWindowBits - step.prefix));
      symbols.put(some ? bits : 0, some ? step.prefix + static_cast<uint32_t>(outstanding) : 0);
      outstanding = (some ? 0 : outstanding) + step.underflow;
    } else {
      if (step.prefix) {
        symbols.put_with_underflow(step.top >> (kWindowBits - 1), outstanding);
        symbols.put((step.top & 0x7FFF) >> (kWindowBits - step.prefix), step.prefix - 1);
        outstanding = 0;
      }
      outstanding += step.underflow;
    }
  }
  symbols.put_with_underflow(window.low < kQuarter ? 0 : 1, outstanding + 1);
  return true;
}

}  // namespace

template <typename Value>
bool arithmetic_encode(const Value* values, size_t n, const RangeTable& table,
                       std::vector<uint8_t>& out) {
  if (table.count_bits > kArithmeticMaxCountBits) return false;
  const size_t begin = out.size(), symbols_begin = begin + kLengthBytes;
  std::vector<uint8_t> offset_bytes;
  out.resize(symbols_begin);
  BitWriter symbols(out), offsets(offset_bytes);
  if (!encode_streams(values, n, table, symbols, offsets)) {
    out.resize(begin);
    return false;
  }
  symbols.finish(symbols_begin);
  offsets.finish(0);
  const uint64_t length = out.size() - symbols_begin;
  if (length > UINT32_MAX) throw std::length_error("arithmetic: more than 4 GiB of symbols");
  for (size_t byte = 0; byte < kLengthBytes; ++byte)
    out[begin + byte] = static_cast<uint8_t>(length >> (8 * byte));
  out.insert(out.end(), offset_bytes.begin(), offset_bytes.end());
  return true;
}

template <typename Value>
bool arithmetic_decode(const uint8_t* data, size_t size, const RangeTable& table, Value* out,
                       size_t n) {
  const int count_bits = table.count_bits;
  if (count_bits > kArithmeticMaxCountBits || table.width > 8 * int{sizeof(Value)}) return false;
  if (size < kLengthBytes) return false;
  const size_t symbol_bytes = data[0] | data[1] << 8 | data[2] << 16 | size_t{data[3]} << 24;
  if (symbol_bytes > size - kLengthBytes) return false;
  const size_t offset_bytes = size - kLengthBytes - symbol_bytes;
  BitReader symbols(data + kLengthBytes, symbol_bytes);
  BitReader offsets(data + kLengthBytes + symbol_bytes, offset_bytes);
  const std::vector<Row> rows = rows_of(table);
  const std::vector<uint16_t> row_of_code = rows_of_codes(table);

  Window window;
  uint32_t ahead = symbols.take(kWindowBits);  // CODE - LO, always less than the range
  bool outside = false;                        // an offset past the end of its row
  for (size_t i = 0; i < n; ++i) {
    // The largest count c with (range * c) >> count_bits <= ahead: what comparing with the scaled
    // counts of all rows finds in hardware, here by one division.
    const uint32_t code = (((ahead + 1) << count_bits) - 1) / window.range;
    const uint16_t index = row_of_code[code];
    if (index == kNoRow) return false;
    const Row& row = rows[index];
    const Step step = window.narrow(row, count_bits);
    ahead = (ahead - step.below) << step.shift | symbols.take(step.shift);
    const uint32_t offset = offsets.take(row.offset_length);
    outside |= offset > row.reach;
    out[i] = static_cast<Value>(row.start + offset);
  }
  const uint64_t symbol_bits = symbols.position() - kWindowBits + 2;
  return !outside && symbol_bytes == bytes_of_whole_words(symbol_bits) &&
         offset_bytes == bytes_of_whole_words(offsets.position()) &&
         window.low + ahead == window.flush_code() && symbols.rest_is_zero() &&
         offsets.rest_is_zero();
}

template bool arithmetic_encode(const uint8_t*, size_t, const RangeTable&, std::vector<uint8_t>&);
template bool arithmetic_encode(const uint16_t*, size_t, const RangeTable&, std::vector<uint8_t>&);
template bool arithmetic_decode(const uint8_t*, size_t, const RangeTable&, uint8_t*, size_t);
template bool arithmetic_decode(const uint8_t*, size_t, const RangeTable&, uint16_t*, size_t);

}  // namespace fewbits
