// Serialized tables from any bytes. What is accepted obeys each rule of the format, comes back from the plainest
// writer, and is what its own bytes say, whatever follows them.
#include "table_bits.hpp"

#include <bit>

#include "bits.hpp"
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

uint32_t unused_counts(const RangeTable& table) {
  return (1u << table.count_bits) - table.cumulative.back();
}

void check_rules(const RangeTable& table) {
  const size_t rows = table.rows();
  require(table.count_bits >= 1 && table.count_bits <= 16, "count bits are 1 to 16");
  require(rows >= 1 && rows <= 4096, "rows are 1 to 4096");
  require(table.offset_lengths.size() == rows && table.counts.size() == rows, "columns are as long");
  require(unused_counts(table) <= 1, "counts sum to their total, or one less");
  for (size_t r = 0; r < rows; ++r) {
    const uint32_t next = r + 1 < rows ? table.starts[r + 1] : 1u << table.width;
    require(table.starts[r] < next, "rows ascend within the value space");
    require(table.offset_lengths[r] <= static_cast<uint32_t>(std::bit_width(next - table.starts[r] - 1)),
            "a row can use its offset");
  }
}

// The form with a flag for each row, all of whose gaps are told in full.
std::vector<uint8_t> write_plainly(const RangeTable& table) {
  std::vector<uint8_t> bytes;
  BitWriterLsb bits(bytes);
  bits.put(static_cast<uint32_t>(table.count_bits) - 1, 4);
  bits.put(static_cast<uint32_t>(table.rows()) - 1, 12);
  bits.put(unused_counts(table), 1);
  bits.put(0, 1);
  bits.put(5, 3);
  bits.put(17, 5);
  bits.put(table.starts[0], table.width);
  for (size_t r = 0; r < table.rows(); ++r) {
    bits.put(table.offset_lengths[r], 5);
    if (r + 1 == table.rows()) break;
    bits.put(0, 1);
    bits.put(table.starts[r + 1] - table.starts[r] - 1, table.width);
    bits.put(table.counts[r], 17);
  }
  bits.flush();
  return bytes;
}

bool same(const RangeTable& a, const RangeTable& b) {
  return a.width == b.width && a.count_bits == b.count_bits && a.starts == b.starts &&
         a.offset_lengths == b.offset_lengths && a.counts == b.counts;
}

bool refused(const std::vector<uint8_t>& bytes, int width) {
  try {
    size_t taken = 0;
    read_table(bytes.data(), bytes.size(), width, taken);
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

void run(Input in) {
  const int width = in.take<uint8_t>() % 18;
  auto bytes = in.rest();
  size_t taken = 0, again = 0;
  const RangeTable table = read_table(bytes.data(), bytes.size(), width, taken);
  require(table.width == width, "a table is for the values that were asked for");
  require(taken <= bytes.size(), "a table is no longer than the bytes given");
  check_rules(table);
  bytes.resize(taken);
  bytes.shrink_to_fit();
  require(same(table, read_table(bytes.data(), taken, width, again)) && again == taken,
          "what follows a table does not matter");
  bytes.pop_back();
  bytes.shrink_to_fit();
  require(refused(bytes, width), "a table that is cut short is refused");
  const auto plain = write_plainly(table);
  require(same(table, read_table(plain.data(), plain.size(), width, again)) && again == plain.size(),
          "a table comes back from the plainest writer");
}

}  // namespace
}  // namespace fewbits::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    fewbits::fuzz::run({data, size});
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
