#include "table_bits.hpp"

#include <bit>

#include "bits.hpp"

namespace fewbits {

RangeTable read_table(const uint8_t* data, size_t size, int width, size_t& taken) {
  if (width < 1 || width > 16) throw std::invalid_argument("range table: width is not in 1..16");
  BitReaderLsb bits(data, size);
  size_t used = 0;
  const auto take = [&](int count) {
    used += static_cast<size_t>(count);
    if (used > 8 * size) throw std::invalid_argument("range table is cut short");
    return bits.get(count);
  };
  const int count_bits = static_cast<int>(take(4)) + 1;
  const size_t rows = take(12) + 1;
  const uint32_t unused = take(1);
  const bool dense = take(1);
  const int length_field = static_cast<int>(take(3)), count_field = static_cast<int>(take(5));
  std::vector<uint32_t> starts{take(width)}, lengths, counts;
  const uint32_t space = 1u << width, total = (1u << count_bits) - unused;
  uint64_t sum = 0;
  const auto check_length = [&](uint32_t gap) {
    if (lengths.back() > static_cast<uint32_t>(std::bit_width(gap)))
      throw std::invalid_argument("range table: an offset is longer than its row can use");
  };
  for (size_t row = 0;; ++row) {
    lengths.push_back(take(length_field));
    const int length = static_cast<int>(lengths.back());
    if (length > 16) throw std::invalid_argument("range table: an offset of more than 16 bits");
    if (row + 1 == rows) break;
    uint32_t gap;  // values between this row's start and the next row's
    if (dense || take(1)) gap = length ? take(length - 1) | 1u << (length - 1) : 0;
    else gap = take(width);
    check_length(gap);
    starts.push_back(starts.back() + gap + 1);
    if (starts.back() >= space)
      throw std::invalid_argument("range table: row starts do not ascend within the value space");
    counts.push_back(take(count_field));
    sum += counts.back();
  }
  check_length(space - 1 - starts.back());
  if (sum > total) throw std::invalid_argument("range table: counts exceed their total");
  counts.push_back(total - static_cast<uint32_t>(sum));
  if (take(static_cast<int>((8 - used % 8) % 8)))
    throw std::invalid_argument("range table: padding bits are not zero");
  taken = used / 8;
  return RangeTable(width, count_bits, std::move(starts), std::move(lengths), std::move(counts));
}

}  // namespace fewbits
