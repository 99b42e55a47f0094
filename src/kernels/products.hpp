// The product of a packed matrix and a few vectors, computed while the matrix is decoded.
//
// A matrix that is unpacked first goes to memory and comes back; here each chunk is multiplied while it is in
// the first-level cache. Sums are in float32, 64 of them side by side and then folded, and the parts of a row
// are added in the order of the blocks: so the result hangs neither on the instruction set nor on the threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "blocks.hpp"

namespace fewbits {

enum class Number : uint8_t { bfloat16 = 0, float32 = 1, int8 = 2 };

// The loops are private to each source that includes them, as those of planes.hpp.
namespace {

using Floats = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Integers = int32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));
using ShortIntegers = int16_t __attribute__((vector_size(32)));
using SmallIntegers = int8_t __attribute__((vector_size(16)));

template <typename Vector>
Vector load_vector(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

// 16 numbers as float32.
struct Bfloat16 {
  using Element = uint16_t;
  static Floats sixteen(const Element* from) {
    const Words bits = __builtin_convertvector(load_vector<Halves>(from), Words) << 16;
    return reinterpret_cast<Floats>(bits);
  }
};
struct Float32 {
  using Element = uint32_t;
  static Floats sixteen(const Element* from) { return load_vector<Floats>(from); }
};
struct Int8 {
  using Element = uint8_t;
  static Floats sixteen(const Element* from) {
    // In steps: compilers know one instruction for each of them, but take numbers apart for all at once.
    const auto wider = __builtin_convertvector(load_vector<SmallIntegers>(from), ShortIntegers);
    return __builtin_convertvector(__builtin_convertvector(wider, Integers), Floats);
  }
};

template <typename Kind>
float dot(const typename Kind::Element* row, const float* vector, size_t n) {
  Floats sums[4] = {};
  const auto add = [&](Floats& sum, size_t at) {
    sum += Kind::sixteen(row + at) * load_vector<Floats>(vector + at);
  };
  size_t i = 0;
  for (; i + 64 <= n; i += 64)
    for (size_t s = 0; s < 4; ++s) add(sums[s], i + 16 * s);
  for (; i + 16 <= n; i += 16) add(sums[0], i);
  if (i < n) {
    typename Kind::Element some[16] = {};
    float with[16] = {};
    std::memcpy(some, row + i, (n - i) * sizeof *some);
    std::memcpy(with, vector + i, (n - i) * sizeof *with);
    sums[0] += Kind::sixteen(some) * load_vector<Floats>(with);
  }
  const Floats folded = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float parts[16];
  std::memcpy(parts, &folded, sizeof parts);
  for (size_t half = 8; half; half /= 2)
    for (size_t j = 0; j < half; ++j) parts[j] += parts[j + half];
  return parts[0];
}

}  // namespace

struct DotLoops {
  float (*bfloat16)(const uint16_t*, const float*, size_t);
  float (*float32)(const uint32_t*, const float*, size_t);
  float (*int8)(const uint8_t*, const float*, size_t);
};

namespace {
inline constexpr DotLoops kDotLoops = {dot<Bfloat16>, dot<Float32>, dot<Int8>};
}  // namespace

DotLoops dot_loops_avx2();
DotLoops dot_loops_avx512();

// Vectors to multiply a matrix with: `count` of `columns` each, one behind the other. Element i of the tensor is in
// row i / columns; `out` gets the products, count rows of as many as the matrix has rows.
struct Vectors {
  Number number;  // what the tensor's elements are
  size_t columns, count;
  const float* values;
  float* out;
  size_t rows;
};

// Multiplies all blocks of a matrix. Returns as unpack_blocks does; what is in `out` after damage means nothing.
int64_t multiply_blocks(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                        const Vectors& vectors, bool verify, int threads);

}  // namespace fewbits
