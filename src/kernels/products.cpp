#include "products.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "block_reader.hpp"
#include "dispatch.hpp"

namespace fewbits {

namespace {

DotLoops dot_loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return dot_loops_avx512();
  if (simd() == Simd::avx2) return dot_loops_avx2();
#endif
  return kDotLoops;
}

// What one block adds to the rows it holds, in the order in which it came: a row, and a sum for each vector.
struct Parts {
  std::vector<size_t> rows;
  std::vector<float> sums;
};

template <typename T>
using Dot = float (*)(const T*, const float*, size_t);

template <typename T>
bool multiply_block(const Plan& plan, const Arrangement& arrangement, const BlockParts& block,
                    const Vectors& vectors, Dot<T> dot_of, Parts& parts) {
  return visit_block<T>(
      plan, arrangement, block, [&](size_t original, const T* elements, size_t count) {
        for (size_t done = 0; done < count;) {
          const size_t row = (original + done) / vectors.columns;
          const size_t column = (original + done) % vectors.columns;
          const size_t some = std::min(vectors.columns - column, count - done);
          if (parts.rows.empty() || parts.rows.back() != row) {
            parts.rows.push_back(row);
            parts.sums.resize(parts.sums.size() + vectors.count, 0.0f);
          }
          float* const sums = parts.sums.data() + parts.sums.size() - vectors.count;
          for (size_t v = 0; v < vectors.count; ++v)
            sums[v] +=
                dot_of(elements + done, vectors.values + v * vectors.columns + column, some);
          done += some;
        }
      });
}

}  // namespace

int64_t multiply_blocks(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                        const Vectors& vectors, bool verify, int threads) {
  const int bytes = vectors.number == Number::bfloat16 ? 2 : vectors.number == Number::float32 ? 4 : 1;
  if (plan.element_bytes != bytes || !vectors.columns ||
      arrangement.elements() != vectors.rows * vectors.columns)
    throw std::invalid_argument("the tensor is no matrix of such numbers and columns");
  const DotLoops loops = dot_loops();
  std::vector<Parts> parts(blocks.count);
  const int64_t damaged =
      each_block(plan, arrangement, blocks, verify, threads, [&](const BlockParts& block) {
        Parts& its = parts[block.number];
        switch (vectors.number) {
          case Number::bfloat16:
            return multiply_block(plan, arrangement, block, vectors, loops.bfloat16, its);
          case Number::float32:
            return multiply_block(plan, arrangement, block, vectors, loops.float32, its);
          default: return multiply_block(plan, arrangement, block, vectors, loops.int8, its);
        }
      });
  std::fill_n(vectors.out, vectors.rows * vectors.count, 0.0f);
  for (const Parts& its : parts)
    for (size_t i = 0; i < its.rows.size(); ++i)
      for (size_t v = 0; v < vectors.count; ++v)
        vectors.out[v * vectors.rows + its.rows[i]] += its.sums[i * vectors.count + v];
  return damaged;
}

}  // namespace fewbits
