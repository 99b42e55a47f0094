// Interleaved rANS over range tables.
//
// Twists for a newcomer:
//  * The encoder walks the values backwards and its words come out last first; the decoder reads them
//    forwards. That is what lets the decoder be a plain loop.
//  * A block has up to 256 lanes: value i belongs to lane i mod lanes. All lanes read 16-bit words from
//    ONE stream, in the order of the values, so the bytes do not depend on how many lanes a vector
//    register holds.
//  * A row's offset bits live in the rANS state too, as far as they fit (count bits + offset bits <= 16
//    keeps one renormalisation a value enough). What does not fit is verbatim: either the low 1 to 8
//    bits of every offset (16-bit values, where those are nearly noise), or the low bits of just the
//    rows that are too wide ("spill").
//  * Codes are dealt to rows by the alias method: 16 equal buckets (more for more rows), each shared by
//    at most two rows. The scalar decoder does not care, but tables of 16 or 32 entries then say
//    everything about a code, and those are what one instruction looks up in a vector register.
//
// docs/format.md specifies all of this. rans_table.cpp builds the tables; rans_encode.cpp and rans_decode.cpp
// hold the plain forms of the two loops; rans_tiles.cpp (any processor), rans_avx2.cpp and rans_avx512.cpp,
// rans_push_avx2.cpp and rans_push_avx512.cpp (over rans_push.hpp) the same in vectors.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "bits.hpp"
#include "range_table.hpp"
#include "rans_push.hpp"
#include "remap.hpp"
#include "xxh3.hpp"

namespace fewbits {

inline constexpr uint32_t kRansLow = 1u << 16;  // states live in [2^16, 2^32)
inline constexpr size_t kMaxLanes = 256;
// Of a payload's first byte: lanes do not end at 2^16 but hold the last values in the 16 bits below.
inline constexpr uint8_t kLoaded = 0x80;

// How many values of this width the 16 low bits of a lane's last state hold.
inline size_t values_a_lane(int width) { return 16 / static_cast<size_t>(width); }

// How many lanes pay: each costs about two bytes, so one for every 1024 values and every 512 bytes of
// words, or where words are few for every 32768 values; a power of two, at most 256. The payload tells the decoder.
inline size_t rans_lanes(size_t values, size_t word_bytes) {
  const size_t pay = std::max(word_bytes / 512, values / 32768);  // many values need vectors
  return std::clamp<size_t>(std::bit_floor(std::min(values / 1024, pay)), 1, kMaxLanes);
}

// What a code (the low count_bits of a state) stands for.
struct RansSlot {
  uint16_t count;
  uint16_t position;  // of the code among those of its row
  uint16_t start;
  uint8_t state_bits;  // offset bits in the state
  uint8_t spill_bits;  // offset bits in the spill stream
};

// The same for the loop of rans_tiles.cpp.
struct RansEntry {
  uint16_t masked_count;  // of the offset bits in the state: mask << count_bits | count
  uint16_t position;
  uint16_t factor;  // 2^(16 - count_bits - state_bits)
  uint16_t start;
};

struct RansRow {
  uint64_t reciprocal;  // ceil(2^63 / count), for division by multiplication
  uint64_t limit;       // a state at or above this sheds a word before the row is pushed
  uint32_t count;
  uint32_t start;
  uint32_t first_code;  // index into RansTable::code_of
  uint8_t state_bits;
  uint8_t spill_bits;
};

// A thing that is made when first asked for.
template <typename T>
class Lazy {
 public:
  template <typename Make>
  const T& get(const Make& make) const {
    std::call_once(made_, [&] { value_.emplace(make()); });
    return *value_;
  }

 private:
  mutable std::once_flag made_;
  mutable std::optional<T> value_;
};

struct RansTable {
  int count_bits = 0;
  int verbatim_bits = 0;  // 0 to 8, of every value
  bool spills = false;
  bool alone = false;  // one row has every code
  bool has_offsets = false;  // some row has offset bits in the state
  std::vector<RansRow> rows;
  const RangeTable* source;  // which must outlive this; its row_of() is what encoders look up

  // Codes as they were dealt: bucket b is the codes from b << bucket_bits on; those below the threshold are
  // piece 2 * b, the others 2 * b + 1.
  struct Piece {
    uint32_t code, row, position;  // the first code, and its position among those of its row
  };
  int bucket_bits = 0;
  std::vector<uint32_t> thresholds;
  std::vector<Piece> pieces;

  RansSlot slot_of(uint32_t code) const {
    const uint32_t bucket = code >> bucket_bits, within = code & ((1u << bucket_bits) - 1);
    const Piece& piece = pieces[2 * bucket + (within >= thresholds[bucket])];
    const RansRow& row = rows[piece.row];
    return {static_cast<uint16_t>(row.count),
            static_cast<uint16_t>(piece.position + (code - piece.code)),
            static_cast<uint16_t>(row.start), row.state_bits, row.spill_bits};
  }

  // By code, 2^count_bits of them; large, and not all coders need them.
  const std::vector<RansSlot>& slots() const;
  const std::vector<RansEntry>& entries() const;  // not where rows spill or one row has every code
  // Codes of each row in ascending order, row after row.
  const std::vector<uint16_t>& code_of() const;

  // Vector form, where `vectorizable`: the columns below, one entry for each half of a bucket, number
  // 2 * bucket + (0 below the threshold, 1 from it on). So half = (code + delta[bucket]) / bucket size, of
  // which one needs the low 5 bits; where the state has a bit above the code, delta[bucket + 16] takes it away.
  // position = code + bias, and scaled = count << (16 - count_bits - state_bits), all modulo 2^16.
  bool vectorizable = false;
  struct {
    uint16_t delta[32] = {};
    uint16_t bias[32] = {}, count[32] = {}, scaled[32] = {}, state_bits[32] = {}, start[32] = {};
    uint8_t threshold[16] = {}, second[16] = {};  // of each bucket; modulo 256; its own row is its first
  } halves;

  // Whether vectors can encode with it, and what they need for that, which is made when first asked for.
  bool vector_encode = false;
  const PushColumns& push_columns() const {
    return push_columns_.get([this] { return PushColumns(*this); });
  }

  // Throws std::invalid_argument if the table cannot be coded this way.
  RansTable(const RangeTable& table, int verbatim_bits);

 private:
  void lay_out_vectors();

  Lazy<std::vector<RansSlot>> slots_;
  Lazy<std::vector<RansEntry>> entries_;
  Lazy<std::vector<uint16_t>> code_of_;
  Lazy<PushColumns> push_columns_;
};

// Values up to `end` (exclusive, counted from the payload's first) go by this table. Runs of one payload share
// the lanes: a state is a number like any other, whichever table pushed it.
struct RansRun {
  const RansTable* table;
  size_t end;
};

// Appends the payload of as many values as the last run's end says; false if one of them has no row. The
// tables of all runs must have the same width and verbatim bits.
template <typename Value>
bool rans_encode(const std::vector<RansRun>& runs, const Value* values, std::vector<uint8_t>& out);

// The loop itself: whole rounds of `lanes` values as long as at least `lanes` words are left (in the vector files 32,
// if that is more), so that
// it needs no other bounds check; the words lie behind the verbatim bits, so reading a few bytes past
// those is safe too. `verbatim` is null where there are none. Values go back through the remap. May eat rounds of
// `hash` (never null) that the values fill. Advances `words`, returns the number of values done.
template <typename Value>
using RansRounds = size_t (*)(const RansTable& table, uint32_t* states, size_t lanes,
                              const uint8_t*& words, const uint8_t* words_end,
                              const uint8_t* verbatim, Remap remap, Value* out, size_t n,
                              Xxh3Rounds* hash);

// Reads a payload some values at a time, so that what comes next can work on them while they are in cache.
// Safe on any bytes. Runs the widest instruction set that dispatch.hpp has chosen.
template <typename Value>
class RansReader {
 public:
  // The tables must outlive the reader; their runs are as for rans_encode. `remap` is what was done to values
  // before they were encoded.
  explicit RansReader(std::vector<RansRun> runs, Remap remap = Remap::identity)
      : runs_(std::move(runs)), remap_(remap) {}
  RansReader(const RansReader&) = delete;  // words_ may point into it

  // Starts on the payload in exactly `size` bytes; false if it cannot be one.
  bool open(const uint8_t* data, size_t size);

  // The next values; false if the payload is damaged. `count` must be a multiple of kMaxLanes but for the
  // last call. A hash that runs over `out` may eat some of it.
  bool read(Value* out, size_t count, Xxh3* hash = nullptr);

  // Whether exactly the whole payload was read and every lane is back where the writer began.
  bool finished() const;

 private:
  size_t read_rounds(const RansTable& table, Value* out, size_t count, Xxh3* hash);
  bool read_plain(const RansTable& table, Value* out, size_t count);
  bool move_last_words();
  void read_loaded(Value* out, size_t count);

  std::vector<RansRun> runs_;
  Remap remap_;
  size_t run_ = 0;  // the one that the next value is in
  const uint8_t *verbatim_ = nullptr, *words_ = nullptr, *end_ = nullptr;
  BitReaderLsb spill_{nullptr, 0};
  // Of n_ values, those up to coded_ are in the stream and the others in the states.
  size_t lanes_ = 1, verbatim_size_ = 0, n_ = 0, coded_ = 0, done_ = 0;
  uint32_t states_[kMaxLanes];
  // The last words with zeros behind them. A few words may well be most of a block: at 0.01 bits a value 512 bytes
  // are 400 000 values.
  bool at_last_words_ = false;
  uint8_t last_words_[8 * kMaxLanes];
};

template <typename Value>
size_t rans_rounds_tiles(const RansTable&, uint32_t*, size_t, const uint8_t*&, const uint8_t*,
                         const uint8_t*, Remap, Value*, size_t, Xxh3Rounds*);
template <typename Value>
size_t rans_rounds_avx2(const RansTable&, uint32_t*, size_t, const uint8_t*&, const uint8_t*,
                        const uint8_t*, Remap, Value*, size_t, Xxh3Rounds*);
template <typename Value>
size_t rans_rounds_avx512(const RansTable&, uint32_t*, size_t, const uint8_t*&, const uint8_t*,
                          const uint8_t*, Remap, Value*, size_t, Xxh3Rounds*);

}  // namespace fewbits
