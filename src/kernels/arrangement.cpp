#include "arrangement.hpp"

#include <algorithm>
#include <stdexcept>

namespace fewbits {

Arrangement::Arrangement(size_t elements, size_t block_elements)
    : elements_(elements), class_ends_{elements} {
  if (block_elements < 1) throw std::invalid_argument("arrangement: blocks of nothing");
  cut(0, elements, block_elements);
}

Arrangement::Arrangement(size_t elements, size_t block_elements, size_t row_elements,
                         const std::vector<uint8_t>& class_of_row,
                         const std::vector<bool>& starts_group)
    : elements_(elements), row_elements_(row_elements) {
  const size_t rows = class_of_row.size(), classes = starts_group.size();
  if (row_elements < 1 || block_elements < 1)
    throw std::invalid_argument("arrangement: rows or blocks of nothing");
  if (rows != elements / row_elements + (elements % row_elements != 0) || rows > UINT32_MAX)
    throw std::invalid_argument("arrangement: as many classes as rows are needed");
  if (classes < 1 || classes > 256)
    throw std::invalid_argument("arrangement: number of classes out of range");
  std::vector<size_t> rows_up_to(classes + 1, 0);
  for (const uint8_t c : class_of_row) {
    if (c >= classes) throw std::invalid_argument("arrangement: a row of an unknown class");
    ++rows_up_to[c + 1];
  }
  for (size_t c = 0; c < classes; ++c) rows_up_to[c + 1] += rows_up_to[c];
  order_.resize(rows);
  std::vector<size_t> next = rows_up_to;
  for (size_t row = 0; row < rows; ++row)
    order_[next[class_of_row[row]]++] = static_cast<uint32_t>(row);
  const size_t lacking = rows * row_elements - elements;
  const size_t last_class = rows ? class_of_row[rows - 1] : 0;
  for (size_t c = 0; c < classes; ++c)
    class_ends_.push_back(rows_up_to[c + 1] * row_elements - (c >= last_class ? lacking : 0));
  if (lacking) {
    missing_ = lacking;
    short_row_end_ = class_ends_[last_class];
  }
  size_t start = 0;
  for (size_t c = 0; c < classes; ++c)
    if (c + 1 == classes || starts_group[c + 1]) {
      cut(start, class_ends_[c], block_elements);
      start = class_ends_[c];
    }
}

void Arrangement::cut(size_t start, size_t end, size_t block_elements) {
  for (; start < end; start += block_elements)
    blocks_.push_back({start, std::min(block_elements, end - start)});
}

std::vector<std::pair<size_t, size_t>> Arrangement::blocks_of(size_t first, size_t last) const {
  std::vector<std::pair<size_t, size_t>> ranges;
  const auto add = [&](size_t b) {
    if (!ranges.empty() && ranges.back().second == b) ++ranges.back().second;
    else ranges.emplace_back(b, b + 1);
  };
  for (size_t b = 0; b < blocks_.size(); ++b) {
    bool wanted = false;
    each_run(blocks_[b].start, blocks_[b].count, [&](size_t, size_t from, size_t count) {
      wanted |= std::max(from, first) < std::min(from + count, last);
    });
    if (wanted) add(b);
  }
  return ranges;
}

}  // namespace fewbits
