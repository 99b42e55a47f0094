// Group quantization; the plain form and specification is src/fewbits/lossy/quantize.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lossy_common.hpp"

namespace fewbits {

struct Quantizer {
  int bits;
  size_t group;  // elements, a multiple of 8
  bool stochastic, zeros;
  uint32_t key0, key1;    // of the noise
  float inverse_steps;  // 0 where there is one level only
};

// Codes and grids of x, or x of them; n elements. Throws std::invalid_argument for settings out of range.
void quantize(const Quantizer& q, Float kind, const void* x, size_t n, uint8_t* codes, uint16_t* grids,
              int threads);
void dequantize(const Quantizer& q, Float kind, const uint8_t* codes, const uint16_t* grids, size_t n,
                void* x, int threads);

// The same for groups [first, last) on one thread, as each instruction set has it.
struct QuantizeLoops {
  void (*encode)(const Quantizer& q, Float kind, const void* x, size_t n, size_t first, size_t last,
                 uint8_t* codes, uint16_t* grids);
  void (*decode)(const Quantizer& q, Float kind, const uint8_t* codes, const uint16_t* grids, size_t n,
                 size_t first, size_t last, void* x);
};

QuantizeLoops quantize_loops_avx2();
QuantizeLoops quantize_loops_avx512();

}  // namespace fewbits
