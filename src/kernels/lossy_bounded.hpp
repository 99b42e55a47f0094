// Error-bounded blocks; the plain form and specification is src/fewbits/lossy/bounded.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lossy_common.hpp"

namespace fewbits {

inline constexpr size_t kBoundedBlock = 32;

struct Bounder {
  float step, inverse, limit;
  bool dither;
  uint32_t key0, key1;  // of the noise
};

// Writes an entry for each block of 32 of the n elements, and the blocks' words; returns how many words. There
// must be room for n elements rounded up to whole blocks.
size_t bound_encode(const Bounder& b, Float kind, const void* x, size_t n, uint32_t* words, uint8_t* entries,
                    int threads);
// Throws std::invalid_argument where the entries do not ask for `count` words exactly.
void bound_decode(float step, Float kind, const uint32_t* words, size_t count, const uint8_t* entries,
                  size_t n, void* x, int threads);

// The same for blocks [first, last) on one thread, as each instruction set has it; `words` are theirs.
struct BoundedLoops {
  size_t (*encode)(const Bounder& b, Float kind, const void* x, size_t n, size_t first, size_t last,
                   uint32_t* words, uint8_t* entries);
  void (*decode)(float step, Float kind, const uint32_t* words, const uint8_t* entries, size_t n, size_t first,
                 size_t last, void* x);
};

BoundedLoops bounded_loops_avx2();
BoundedLoops bounded_loops_avx512();

}  // namespace fewbits
