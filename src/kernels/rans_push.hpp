// What the vector forms of encoding know of a table: columns of at most 16 rows, and its codes in pieces.
//
// Twist: a row's codes, in ascending order, are a few runs of consecutive ones, since each of the 16 buckets
// is shared by at most two rows. With all rows' codes in one list, row after row, the code at an index is
// therefore the index plus one of at most 32 constants: a search in a register in place of a look-up in
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fewbits {

struct RansTable;

struct PushColumns {
  // Of row r: the value before its start; past the last row, 0xFFFF, which no value is above.
  uint16_t row_before[16];
  // A value v of row r can be written if v - base, in 16 bits, is at most reach. (Where a row has no codes,
  // base is past its last value and reach is 0.)
  uint16_t base[16], reach[16];
  // A state at or above the limit sheds a word first. Then it is shifted by state_bits and divided by count.
  uint32_t count[16], limit[16], state_bits[16];
  uint32_t first_code[16];  // index of the row's first code
  float reciprocal[16];     // 1 / count, rounded down
  uint32_t divisor[16];     // (2^32 - 1) / count, rounded down
  // Of each piece but the first: the index before its own first; past the last one, 0xFFFF. And its code less
  // its index, in 16 bits.
  uint16_t piece_before[32], piece_shift[32];

  // Of a table of at most 16 rows, dealt to 16 buckets, without spilling.
  explicit PushColumns(const RansTable& table);
};

// Pushes n values, whole rounds of lanes and a multiple of 32, last first: words go below `words`, which moves
// down (up to 16 more may be overwritten), each value's verbatim bits in their place. False if a value has no row.
template <typename Value>
using RansPush = bool (*)(const RansTable& table, const PushColumns& columns, const Value* values,
                          size_t n, size_t lanes, uint32_t* states, uint16_t*& words,
                          uint8_t* verbatim);

template <typename Value>
bool rans_push_avx2(const RansTable&, const PushColumns&, const Value*, size_t, size_t, uint32_t*,
                    uint16_t*&, uint8_t*);
template <typename Value>
bool rans_push_avx512(const RansTable&, const PushColumns&, const Value*, size_t, size_t, uint32_t*,
                      uint16_t*&, uint8_t*);

}  // namespace fewbits
