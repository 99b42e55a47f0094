// Range tables as frames hold them (docs/format.md, "Range tables").
#pragma once

#include <cstddef>
#include <cstdint>

#include "range_table.hpp"

namespace fewbits {

// Reads a table for values of `width` bits from the front of `size` bytes and sets `taken` to the bytes that it
// took. Throws std::invalid_argument unless everything that the format asks of a table holds.
RangeTable read_table(const uint8_t* data, size_t size, int width, size_t& taken);

}  // namespace fewbits
