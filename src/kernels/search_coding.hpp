// Which tables code a plane best, from the histograms of its values.
#pragma once

#include <memory>
#include <vector>

#include "blocks.hpp"
#include "search_table.hpp"

namespace fewbits {

struct ChoiceSettings {
  bool arithmetic, paper, thorough;
  size_t rows, classes;  // at most
  int count_bits;        // 0: several are tried
};

struct ChosenPlane {
  Coder coder = Coder::none;
  int verbatim_bits = 0;
  std::vector<std::shared_ptr<const RangeTable>> tables;
};

// The cheapest coded form of values; infinite bits if there is none.
struct Coding {
  int verbatim_bits;
  std::shared_ptr<const RangeTable> table;
  double bits;
};

// Of small tensors the table itself is a large share: planes of fewer values get no more rows than this.
inline constexpr size_t kSmall = 4096, kSmallRows = 8, kTiny = 1024, kTinyRows = 4;
// Of 16-bit offsets, so many low bits are nearly noise in trained floats. Values that share the bits above the
// least of them are counted together.
inline constexpr int kVerbatimBits[] = {6, 7, 8};
inline constexpr int kNoise = kVerbatimBits[0];

// A histogram whose values are counted together by what they share above `dropped` bits.
Histogram coarser(const Histogram& fine, int dropped);

// A plane's tables while they are chosen, and the price of what they code.
class PlaneCoder {
 public:
  ChosenPlane plane;
  double price = 0;

  PlaneCoder(int width, const ChoiceSettings& settings) : width_(width), settings_(settings) {}

  // One table for each class, or none at all.
  void by_class(const std::vector<Histogram>& classes, const Histogram& whole);
  // A table for each group that pays: what is noise in one may be zero in another.
  void by_group(const std::vector<Histogram>& groups);

 private:
  int width_;
  const ChoiceSettings& settings_;

  void add(const Coding& coding);
};

}  // namespace fewbits
