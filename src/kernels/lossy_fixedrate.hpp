// Fixed-rate blocks; the plain form and specification is src/fewbits/lossy/fixedrate.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lossy_common.hpp"
#include "lossy_cosine.hpp"

namespace fewbits {

struct FixedRate {
  int dims;                   // of a block, 1 to 3
  int budget;                 // bits of a block, a multiple of 4
  int largest_fall;
  std::vector<int> sizes;     // of the groups of coefficients
  std::vector<int> order;     // the coefficients, by group
  size_t outer;               // lines, planes or cubes that blocks do not cross
  std::array<size_t, 3> size;   // of each of them; 1 in the first 3 - dims places
  CosineWeights<4> weights;

  std::array<size_t, 3> counts() const;  // of blocks along each dimension
  size_t blocks() const;
  size_t bytes() const;  // of the payload
};

// Throw std::invalid_argument where the settings contradict each other.
void fixed_encode(const FixedRate& f, Float kind, const void* x, uint8_t* payload, int threads);
void fixed_decode(const FixedRate& f, Float kind, const uint8_t* payload, void* x, int threads);

// The same for blocks [first, last) on one thread, as each instruction set has it; the first begins a byte.
struct FixedRateLoops {
  void (*encode)(const FixedRate& f, Float kind, const void* x, size_t first, size_t last, uint8_t* payload);
  void (*decode)(const FixedRate& f, Float kind, const uint8_t* payload, size_t first, size_t last, void* x);
};

FixedRateLoops fixed_loops_avx2();
FixedRateLoops fixed_loops_avx512();

}  // namespace fewbits
