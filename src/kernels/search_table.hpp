// From a histogram to a whole range table: rows, counts, and what it takes to code the data with it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "range_table.hpp"

namespace fewbits {

// How often values occur. Those that do not are left out; neighbours may be counted together, as long as their
// low bits are stored as they are anyway.
struct Histogram {
  int width = 0;
  int dropped = 0;  // low bits that were not looked at: values 2^dropped * i and up are counted together
  std::vector<uint32_t> values;   // i, ascending
  std::vector<uint64_t> counts;   // none is 0
  uint64_t total = 0;
  uint64_t most = 0;

  // `counts` of all values in order.
  static Histogram of(int width, int dropped, const uint64_t* counts, size_t size);
  // Of `n` values, which are sorted.
  static Histogram of_sorted(int width, const uint16_t* sorted, size_t n);
  double entropy() const;  // bits a value; dropped bits count as they are
};

struct TableBounds {
  size_t rows;
  int count_bits, max_offset_length, verbatim_bits;
  bool paper = false;
};

struct PricedTable {
  std::shared_ptr<const RangeTable> table;  // null where no table of these bounds holds the values
  double bits = 0;                          // of the values, and of the table itself
};

// The best table for data that are all in the histogram.
PricedTable search_table(const Histogram& histogram, const TableBounds& bounds);

// Bits of the values and the table itself; infinite where it lacks a value.
double coded_bits(const RangeTable& table, const Histogram& histogram, int verbatim_bits);

// Counts of rows that occur so often: as `exact_counts` and `paper_counts` in Python, which specify them, without
// `every_row`.
std::vector<uint32_t> exact_counts(const std::vector<uint64_t>& occurrences, uint32_t total);
std::vector<uint32_t> paper_counts(const std::vector<uint64_t>& occurrences, uint32_t total);

// As docs/format.md lays tables out.
std::vector<uint8_t> write_table(const RangeTable& table);

}  // namespace fewbits
