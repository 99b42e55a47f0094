// In what order a tensor's elements stand in its frame, and where that order is cut into blocks.
//
// Without classes the elements stand as they are, and every block but the last has the same size. With
// classes the tensor is rows of equally many elements (the last may be shorter), and those of one class
// stand together: all of class 0 in their order, then class 1, and so on. Classes form groups; a group
// starts a block, so that a block whose planes suit only some classes can have them to itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace fewbits {

class Arrangement {
 public:
  struct Block {
    size_t start, count;  // elements, in stored order
  };

  // As they are.
  Arrangement(size_t elements, size_t block_elements);

  // In classes: class_of_row has one entry a row, below starts_group.size(), which tells of each class
  // whether a group begins with it (the first does anyway). Throws std::invalid_argument.
  Arrangement(size_t elements, size_t block_elements, size_t row_elements,
              const std::vector<uint8_t>& class_of_row, const std::vector<bool>& starts_group);

  size_t elements() const { return elements_; }
  size_t blocks() const { return blocks_.size(); }
  Block block(size_t b) const { return blocks_[b]; }
  bool in_classes() const { return row_elements_ > 0; }
  size_t classes() const { return class_ends_.size(); }
  // Where each class ends in stored order, in elements; one entry for all where there are no classes.
  const std::vector<size_t>& class_ends() const { return class_ends_; }

  struct Run {
    size_t original, count;
  };

  // Where the element lies in the tensor that is stored at `start`, and how many follow it there as they do
  // here, up to `most`.
  Run run_at(size_t start, size_t most) const {
    if (!in_classes()) return {start, most};
    // Only the tensor's last row can be short; from there on to its class's end nothing follows, and in the
    // classes behind it everything stands as much earlier.
    const size_t place = start + (start >= short_row_end_ ? missing_ : 0);
    const size_t row = place / row_elements_, within = place % row_elements_;
    const size_t from = size_t{order_[row]} * row_elements_ + within;
    return {from, std::min({row_elements_ - within, elements_ - from, most})};
  }

  // Calls visit(stored, original, count) for the runs of elements that make up stored order
  // start .. start + count - 1.
  template <typename Visit>
  void each_run(size_t start, size_t count, const Visit& visit) const {
    for (const size_t end = start + count; start < end;) {
      const Run run = run_at(start, end - start);
      visit(start, run.original, run.count);
      start += run.count;
    }
  }

  // Whether the block is made of whole rows of so many elements each.
  bool has_rows_of(size_t unit, Block block) const {
    return in_classes() && missing_ == 0 && row_elements_ % unit == 0 &&
           block.start % row_elements_ == 0;
  }

  // The blocks that hold elements first .. last - 1 of the tensor, as ranges in ascending order.
  std::vector<std::pair<size_t, size_t>> blocks_of(size_t first, size_t last) const;

 private:
  void cut(size_t start, size_t end, size_t block_elements);

  size_t elements_, row_elements_ = 0;
  std::vector<Block> blocks_;
  std::vector<size_t> class_ends_;
  std::vector<uint32_t> order_;  // rows as they stand
  size_t short_row_end_ = SIZE_MAX, missing_ = 0;
};

}  // namespace fewbits
