// Arrangements of any rows: every element stands in one place, as the plainest program would put it, and
// windows name just the blocks that hold them.
#include "input.hpp"

#include <numeric>

namespace fewbits::fuzz {
namespace {

// The original place of each element in stored order: rows sorted by class.
std::vector<size_t> sorted_elements(const Order& order) {
  const size_t elements = order.arrangement.elements();
  std::vector<size_t> places(elements);
  std::iota(places.begin(), places.end(), size_t{0});
  if (!order.class_of_row.empty())
    std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) {
      return order.class_of_row[a / order.row_elements] < order.class_of_row[b / order.row_elements];
    });
  return places;
}

// Whether the element stored at `at` begins a group that the one before is not in.
bool begins_group(const Order& order, const std::vector<size_t>& places, size_t at) {
  if (order.class_of_row.empty()) return false;
  const auto class_of = [&](size_t i) { return order.class_of_row[places[i] / order.row_elements]; };
  for (size_t c = class_of(at); c > class_of(at - 1); --c)
    if (order.starts_group[c]) return true;
  return false;
}

void check_blocks(const Order& order, const std::vector<size_t>& places) {
  std::vector<size_t> starts, found;
  for (size_t at = 0; at < places.size(); ++at)
    if (at == 0 || at - starts.back() == order.block_elements || begins_group(order, places, at))
      starts.push_back(at);
  const Arrangement& arrangement = order.arrangement;
  size_t reached = 0;
  for (size_t b = 0; b < arrangement.blocks(); ++b) {
    const auto [start, count] = arrangement.block(b);
    require(start == reached, "blocks follow on each other");
    found.push_back(start);
    reached += count;
  }
  require(reached == places.size(), "blocks hold all elements");
  require(found == starts, "blocks begin where one is full or a group begins");
  reached = 0;
  for (const size_t end : arrangement.class_ends()) {
    require(end >= reached, "classes follow on each other");
    reached = end;
  }
  require(reached == places.size(), "classes hold all elements");
}

void check_run(const Arrangement& arrangement, const std::vector<size_t>& places, size_t start,
               size_t count) {
  size_t reached = start;
  arrangement.each_run(start, count, [&](size_t stored, size_t original, size_t run) {
    require(stored == reached && (run > 0 || count == 0), "runs follow on each other");
    require(run <= start + count - reached, "a run ends where it is asked to");
    for (size_t i = 0; i < run; ++i)
      require(places[stored + i] == original + i, "a run is where its elements belong");
    reached += run;
  });
  require(reached == start + count, "runs hold all that is asked for");
}

void check_window(const Arrangement& arrangement, const std::vector<size_t>& places, size_t first,
                  size_t last) {
  std::vector<bool> named(arrangement.blocks(), false);
  size_t reached = 0;
  for (const auto& [from, to] : arrangement.blocks_of(first, last)) {
    require(from < to && (reached == 0 || from > reached), "ranges ascend and are apart");
    for (size_t b = from; b < to; ++b) named.at(b) = true;
    reached = to;
  }
  for (size_t b = 0; b < arrangement.blocks(); ++b) {
    const auto [start, count] = arrangement.block(b);
    const auto begin = places.begin() + static_cast<ptrdiff_t>(start);
    const bool holds = std::any_of(begin, begin + static_cast<ptrdiff_t>(count),
                                   [&](size_t at) { return first <= at && at < last; });
    require(holds == named[b], "a block is named if it holds some of the window");
  }
}

void run(Input in) {
  const Order order = take_order(in, 4096);
  const auto places = sorted_elements(order);
  check_blocks(order, places);
  for (size_t b = 0; b < order.arrangement.blocks(); ++b) {
    const auto [start, count] = order.arrangement.block(b);
    check_run(order.arrangement, places, start, count);
  }
  for (int i = 0; i < 4; ++i) {
    const size_t first = in.take<uint16_t>() % (places.size() + 1);
    const size_t count = in.take<uint16_t>() % (places.size() + 1 - first);
    check_run(order.arrangement, places, first, count);
    check_window(order.arrangement, places, first, first + count);
  }
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
