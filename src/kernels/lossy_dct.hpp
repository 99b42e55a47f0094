// Low frequencies of 8 x 8 blocks; the plain form and specification is src/fewbits/lossy/dct.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "lossy_common.hpp"
#include "lossy_cosine.hpp"

namespace fewbits {

inline constexpr int kSide = 8;

struct Dct {
  size_t planes, height, width;      // of the maps; planes lie one after another
  int chop;                          // frequencies kept along each side
  std::array<int, kSide * kSide> slot;  // [u * 8 + v]: the place of a frequency in the payload, or -1
  CosineWeights<kSide> weights;

  size_t block_rows() const { return (height + kSide - 1) / kSide; }
  size_t block_columns() const { return (width + kSide - 1) / kSide; }
};

// The coefficients of maps, all blocks' first, then all blocks' second, ..., and the maps of them.
void dct_encode(const Dct& d, Float kind, const void* x, void* coefficients, int threads);
void dct_decode(const Dct& d, Float kind, const void* coefficients, void* x, int threads);

// The same for rows of blocks [first, last), of all planes, on one thread, as each instruction set has it.
struct DctLoops {
  void (*encode)(const Dct& d, Float kind, const void* x, size_t first, size_t last, void* coefficients);
  void (*decode)(const Dct& d, Float kind, const void* coefficients, size_t first, size_t last, void* x);
};

DctLoops dct_loops_avx2();
DctLoops dct_loops_avx512();

}  // namespace fewbits
