// What the fuzz targets share: fields taken off the front of an input, whatever its bytes are.
//
// `seeds.py` writes the same fields from what the library's own writer made. A new field of a plan or an
// arrangement goes into both.
#pragma once

#include <algorithm>
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
#include "rans.hpp"

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

// Tables that code the values of one payload, each up to where the next goes on.
struct Runs {
  std::vector<Table> sources;
  std::vector<std::unique_ptr<const RansTable>> tables;
  std::vector<RansRun> all;
};

// Throws std::invalid_argument for what is no table, or none that can share a payload.
inline Runs take_runs(Input& in) {
  Runs runs;
  const size_t count = in.take<uint8_t>() % 4 + 1;
  const int verbatim_bits = in.take<uint8_t>();
  for (size_t end = 0; runs.all.size() < count;) {
    end += in.take<uint16_t>();
    runs.sources.push_back(take_table(in));
    if (runs.sources.back()->width != runs.sources.front()->width)
      throw std::invalid_argument("tables of one payload are for the same values");
    runs.tables.push_back(std::make_unique<RansTable>(*runs.sources.back(), verbatim_bits));
    runs.all.push_back({runs.tables.back().get(), end});
  }
  return runs;
}

// Throws std::invalid_argument for what is no plan.
inline Plan take_plan(Input& in) {
  const int element_bytes = in.take<uint8_t>();
  const auto remap = static_cast<Remap>(in.take<uint8_t>() % 3);
  std::vector<Plane> planes;
  for (size_t left = in.take<uint8_t>() % 9; left > 0; --left) {
    const int bytes = in.take<uint8_t>(), offset = in.take<uint8_t>();
    const auto coder = static_cast<Coder>(in.take<uint8_t>() % 3);
    const int verbatim_bits = in.take<uint8_t>();
    std::vector<Table> tables(in.take<uint8_t>() % 9);
    for (Table& table : tables) table = take_table(in);
    planes.emplace_back(bytes, offset, coder, verbatim_bits, tables);
  }
  return Plan(element_bytes, remap, std::move(planes));
}

// The order of at most so many elements, and what it was made from.
struct Order {
  Arrangement arrangement;
  size_t block_elements, row_elements;
  std::vector<uint8_t> class_of_row;  // empty where there are no classes
  std::vector<bool> starts_group;
};

// Throws std::invalid_argument for what is no arrangement.
inline Order take_order(Input& in, size_t most_elements) {
  const size_t elements = in.take<uint32_t>() % (most_elements + 1);
  const size_t block_elements = in.take<uint16_t>(), row_elements = in.take<uint16_t>();
  const size_t classes = in.take<uint8_t>();
  if (classes == 0) return {Arrangement(elements, block_elements), block_elements, 0, {}, {}};
  std::vector<bool> starts_group;
  for (size_t c = 0; c < classes; ++c) starts_group.push_back(in.take<uint8_t>() & 1);
  const size_t rows = row_elements ? (elements + row_elements - 1) / row_elements : 0;
  if (rows > in.left()) throw std::invalid_argument("the classes of a frame's rows are in the file");
  auto class_of_row = in.column<uint8_t>(rows);
  for (uint8_t& c : class_of_row) c = static_cast<uint8_t>(c % (classes + 1));  // mostly a class there is
  return {Arrangement(elements, block_elements, row_elements, class_of_row, starts_group),
          block_elements, row_elements, class_of_row, starts_group};
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
