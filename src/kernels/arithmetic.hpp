// The paper's arithmetic coder (APack, sections IV and V), one symbol a step.
//
// A payload is: u32 little-endian, the bytes of the symbol stream; the symbol stream (rows,
// arithmetic-coded); the offset stream (offsets verbatim). Bits fill bytes from the top, and each
// stream is padded with zeros to whole 32-bit words. How many values there are is told from outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "range_table.hpp"

namespace fewbits {

// After each step the 16-bit window spans more than 2^14 codes, so with counts out of at most 2^14
// even a count of one keeps a code of its own. With more count bits a row could vanish.
inline constexpr int kArithmeticMaxCountBits = 14;

// Appends the payload of `n` values to `out`. False, with `out` as it was, if a value has no row or
// the table's counts are finer than the window allows. Throws std::length_error past 4 GiB of symbols.
template <typename Value>
bool arithmetic_encode(const Value* values, size_t n, const RangeTable& table,
                       std::vector<uint8_t>& out);

// Decodes exactly `n` values into `out`. False if [data, data + size) is not, to the last bit, what
// arithmetic_encode writes for n values under this table; `out` then holds values of no meaning.
// Any bytes are safe to pass.
template <typename Value>
bool arithmetic_decode(const uint8_t* data, size_t size, const RangeTable& table, Value* out,
                       size_t n);

extern template bool arithmetic_encode(const uint8_t*, size_t, const RangeTable&,
                                       std::vector<uint8_t>&);
extern template bool arithmetic_encode(const uint16_t*, size_t, const RangeTable&,
                                       std::vector<uint8_t>&);
extern template bool arithmetic_decode(const uint8_t*, size_t, const RangeTable&, uint8_t*, size_t);
extern template bool arithmetic_decode(const uint8_t*, size_t, const RangeTable&, uint16_t*, size_t);

}  // namespace fewbits
