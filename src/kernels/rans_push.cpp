// How a table is laid out for the vector forms of encoding.
#include "rans_push.hpp"

#include <algorithm>
#include <cmath>

#include "rans.hpp"

namespace fewbits {

namespace {

float reciprocal_rounded_down(uint32_t count) {
  const float nearest = 1.0f / static_cast<float>(count);
  // Exact: 24 bits times 12.
  return static_cast<double>(nearest) * count > 1 ? std::nextafter(nearest, 0.0f) : nearest;
}

}  // namespace

PushColumns::PushColumns(const RansTable& table) {
  const RangeTable& source = *table.source;
  const size_t rows = table.rows.size();
  for (size_t r = 0; r < 16; ++r) {
    const bool real = r < rows, writes = real && table.rows[r].count;
    const uint32_t start = real ? source.starts[r] : 1u << 16;
    const uint32_t next = r + 1 < rows ? source.starts[r + 1] : 1u << source.width;
    const RansRow row = writes ? table.rows[r] : RansRow{};
    row_before[r] = static_cast<uint16_t>(start - 1);
    base[r] = static_cast<uint16_t>(writes ? start : next);
    reach[r] = 0;
    if (writes)
      reach[r] = static_cast<uint16_t>(
          std::min(next - start, 1u << source.offset_lengths[r]) - 1);
    count[r] = row.count;
    limit[r] = static_cast<uint32_t>(row.limit);
    state_bits[r] = row.state_bits;
    first_code[r] = row.first_code;
    reciprocal[r] = writes ? reciprocal_rounded_down(row.count) : 0;
    divisor[r] = writes ? static_cast<uint32_t>(UINT32_MAX / row.count) : 0;
  }
  std::fill_n(piece_before, 32, 0xFFFF);
  std::fill_n(piece_shift, 32, 0);
  size_t piece = 0;
  for (size_t index = 0; index < size_t{1} << table.count_bits; ++index) {
    const auto shift = static_cast<uint16_t>(table.code_of()[index] - index);
    if (index == 0 || shift != piece_shift[piece]) {
      if (index) piece_before[++piece] = static_cast<uint16_t>(index - 1);
      piece_shift[piece] = shift;
    }
  }
}

}  // namespace fewbits
