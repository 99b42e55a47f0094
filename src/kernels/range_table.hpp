// A range table as the kernels see it: rows over the value space, and which row each value is in.
//
// Two twists for a newcomer. Cumulative counts are exclusive (row r owns the codes from cumulative[r]
// up to but not including cumulative[r + 1]). A value that no row can write has row kNoRow: encoders
// must refuse it, decoders never produce it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace fewbits {

inline constexpr uint16_t kNoRow = 0xFFFF;

struct RangeTable {
  int width = 0;       // bits a value, 1 to 16
  int count_bits = 0;  // counts are out of 2^count_bits, 1 to 16
  std::vector<uint32_t> starts;
  std::vector<uint32_t> offset_lengths;
  std::vector<uint32_t> counts;
  std::vector<uint32_t> cumulative;  // rows + 1 entries

  // The row of each value, one entry for every uint8_t, or uint16_t where width > 8; kNoRow where none.
  // Only encoders need it, so it is made when first asked for.
  const std::vector<uint16_t>& row_of() const {
    std::call_once(row_of_made_, [this] { make_row_of(); });
    return row_of_;
  }

  size_t rows() const { return starts.size(); }

  // The caller (RangeTable in Python) has checked the rules of the format; what is checked again here
  // is what memory safety rests on.
  RangeTable(int width_, int count_bits_, std::vector<uint32_t> starts_,
             std::vector<uint32_t> offset_lengths_, std::vector<uint32_t> counts_)
      : width(width_),
        count_bits(count_bits_),
        starts(std::move(starts_)),
        offset_lengths(std::move(offset_lengths_)),
        counts(std::move(counts_)) {
    if (width < 1 || width > 16 || count_bits < 1 || count_bits > 16)
      throw std::invalid_argument("range table: width or count bits out of range");
    if (starts.empty() || starts.size() >= kNoRow || offset_lengths.size() != starts.size() ||
        counts.size() != starts.size())
      throw std::invalid_argument("range table: columns differ in length");
    const uint32_t space = 1u << width;
    cumulative.assign(1, 0);
    for (size_t row = 0; row < rows(); ++row) {
      const uint32_t next = row + 1 < rows() ? starts[row + 1] : space;
      if (starts[row] >= next || next > space || offset_lengths[row] > 16 ||
          counts[row] > 1u << count_bits)
        throw std::invalid_argument("range table: a row is out of range");
      cumulative.push_back(cumulative.back() + counts[row]);
    }
    if (cumulative.back() > 1u << count_bits)
      throw std::invalid_argument("range table: counts exceed their total");
  }

 private:
  void make_row_of() const {
    row_of_.assign(width > 8 ? 1u << 16 : 1u << 8, kNoRow);
    for (size_t row = 0; row < rows(); ++row) {
      const uint32_t next = row + 1 < rows() ? starts[row + 1] : 1u << width;
      const uint64_t reach = uint64_t{starts[row]} + (uint64_t{1} << offset_lengths[row]);
      if (counts[row])
        for (uint32_t value = starts[row]; value < next && value < reach; ++value)
          row_of_[value] = static_cast<uint16_t>(row);
    }
  }

  mutable std::once_flag row_of_made_;
  mutable std::vector<uint16_t> row_of_;
};

}  // namespace fewbits
