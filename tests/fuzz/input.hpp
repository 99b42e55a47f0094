// What the fuzz targets share: fields taken off the front of an input, whatever its bytes are.
//
// `seeds.py` writes the same fields from what the library's own writer made. A new field of a plan goes
// into both.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "dispatch.hpp"
#include "range_table.hpp"

namespace fewbits::fuzz {

// Says what does not hold and ends the process, which is what a fuzzer counts as a finding.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  // A little-endian field; zero where the input has ended.
  template <typename T>
  T take() {
    T value = 0;
    const size_t size = std::min(left_, sizeof(T));
    if (size) std::memcpy(&value, data_, size);
    data_ += size;
    left_ -= size;
    return value;
  }

  template <typename T>
  std::vector<T> column(size_t n) {
    std::vector<T> values;
    for (size_t i = 0; i < n; ++i) values.push_back(take<T>());
    values.shrink_to_fit();  // so that the sanitizer sees a read past the end
    return values;
  }

  // All that is left, in memory of its own for the same reason.
  std::vector<uint8_t> rest() { return column<uint8_t>(left_); }

  size_t left() const { return left_; }

 private:
  const uint8_t* data_;
  size_t left_;
};

using Table = std::shared_ptr<const RangeTable>;

// Throws std::invalid_argument for what is no table.
inline Table take_table(Input& in) {
  const int width = in.take<uint8_t>(), count_bits = in.take<uint8_t>();
  const size_t rows = std::min<size_t>(in.take<uint16_t>(), in.left());
  std::vector<uint32_t> starts, lengths, counts;
  for (size_t r = 0; r < rows; ++r) {
    starts.push_back(in.take<uint16_t>());
    lengths.push_back(in.take<uint8_t>());
    counts.push_back(uint32_t{in.take<uint16_t>()} + 1 - in.take<uint8_t>());  // 2^16 fits too
  }
  return std::make_shared<RangeTable>(width, count_bits, starts, lengths, counts);
}

// Throws std::invalid_argument for what is no plan.
inline Plan take_plan(Input& in) {
  const int element_bytes = in.take<uint8_t>();
  const auto remap = static_cast<Remap>(in.take<uint8_t>() % 3);
  const size_t block_elements = in.take<uint16_t>();
  std::vector<Plane> planes;
  for (size_t left = in.take<uint8_t>() % 9; left > 0; --left) {
    const int bytes = in.take<uint8_t>(), offset = in.take<uint8_t>();
    const auto coder = static_cast<Coder>(in.take<uint8_t>() % 3);
    const int verbatim_bits = in.take<uint8_t>();
    std::vector<Table> tables(in.take<uint8_t>() % 9);
    for (Table& table : tables) table = take_table(in);
    planes.emplace_back(bytes, offset, coder, verbatim_bits, tables);
  }
  return Plan(element_bytes, remap, block_elements, std::move(planes));
}

// Calls f once for each instruction set that this processor has.
template <typename F>
void on_every_simd(F&& f) {
  static const std::vector<std::string> names = available_simd();
  for (const std::string& name : names) {
    set_simd(name);
    f();
  }
}

}  // namespace fewbits::fuzz
