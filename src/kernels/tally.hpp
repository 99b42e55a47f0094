// Counting how often each value occurs.
//
// Twist: neighbours are counted in tables of their own, so that a run of equal values does not wait on its own
// last increment.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace fewbits {

template <typename Value>
class Tally {
 public:
  // `values` may have any alignment.
  void add(const uint8_t* values, size_t n) {
    constexpr size_t most = size_t{1} << 31;  // what a 32-bit count is sure to hold
    while (n) {
      const size_t now = std::min(n, most);
      if (held_ + now > most) flush();
      held_ += now;
      count(values, now);
      values += now * sizeof(Value);
      n -= now;
    }
  }

  // Occurrences of each value so far.
  const std::vector<uint64_t>& counts() {
    flush();
    return counts_;
  }

 private:
  static constexpr size_t kSpace = size_t{1} << (8 * sizeof(Value));
  static constexpr size_t kAtOnce = 8 / sizeof(Value);
  static constexpr size_t kTables = sizeof(Value) == 1 ? 4 : 2;  // more would not fit the caches
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(kSpace);
  std::vector<uint32_t> tables_ = std::vector<uint32_t>(kTables * kSpace);
  size_t held_ = 0;

  void count(const uint8_t* values, size_t n) {
    uint32_t* const tables = tables_.data();
    size_t i = 0;
    for (; i + kAtOnce <= n; i += kAtOnce) {
      uint64_t piece;
      std::memcpy(&piece, values + i * sizeof(Value), 8);
      for (size_t k = 0; k < kAtOnce; ++k)
        ++tables[k % kTables * kSpace + static_cast<Value>(piece >> (8 * sizeof(Value) * k))];
    }
    for (; i < n; ++i) {
      Value value;
      std::memcpy(&value, values + i * sizeof(Value), sizeof(Value));
      ++tables[value];
    }
  }

  void flush() {
    for (size_t t = 0; t < kTables; ++t)
      for (size_t v = 0; v < kSpace; ++v) counts_[v] += tables_[t * kSpace + v];
    std::fill(tables_.begin(), tables_.end(), 0);
    held_ = 0;
  }
};

}  // namespace fewbits
