#include "products.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <utility>
#include <vector>

#include "block_reader.hpp"
#include "dispatch.hpp"

namespace fewbits {

namespace {

AllProductLoops product_loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return product_loops_avx512();
  if (simd() == Simd::avx2) return product_loops_avx2();
#endif
  return kProductLoops;
}

#if defined(__x86_64__)
bool has_pair_loops() {
  return simd() == Simd::avx512 && __builtin_cpu_supports("avx512bf16");
}
#endif

bool are_bfloat16(const float* values, size_t n) {
  return std::all_of(values, values + n,
                     [](float x) { return (std::bit_cast<uint32_t>(x) & 0xFFFF) == 0; });
}

// What multiplies numbers of one kind: its loops, and the vectors as these want them, each filled up with zeros to
// whole groups.
template <typename Element, typename With>
struct Factor {
  ProductLoops<Element, With> loops;
  size_t (*place)(size_t);  // of a number in its group
  With (*form)(float);      // what stands there
  size_t step = 0;
  std::vector<With> values = {};

  void arrange(const Vectors& vectors) {
    step = (vectors.columns + kGroup - 1) / kGroup * kGroup;
    values.resize(step * vectors.count);
    for (size_t v = 0; v < vectors.count; ++v)
      for (size_t i = 0; i < vectors.columns; ++i)
        values[v * step + i / kGroup * kGroup + place(i % kGroup)] =
            form(vectors.values[v * vectors.columns + i]);
  }
};

// What is decoded before it is multiplied with few or many vectors: large enough for some rows side by side.
constexpr size_t kManyVectors = 4, kRowsBytes = size_t{1} << 15;
// So many, whatever the loops take abreast: where rows are cut, sums are.
constexpr size_t kRowsTogether = 4;

// What one block adds to the rows it holds, in the order in which it came: a row, and a sum for each vector.
struct Parts {
  std::vector<size_t> rows;
  std::vector<float> sums;

  // Room for the sums of so many rows from this one on.
  float* of(size_t row, size_t some, size_t vectors) {
    if (rows.empty() || rows.back() != row) {
      for (size_t r = 0; r < some; ++r) rows.push_back(row + r);
      sums.resize(rows.size() * vectors, 0.0f);
    }
    return sums.data() + sums.size() - some * vectors;
  }
};

template <typename Element, typename With>
class Multiplier {
 public:
  Multiplier(const Vectors& vectors, const Factor<Element, With>& factor, Parts& parts)
      : vectors_(vectors), factor_(factor), loops_(factor.loops), parts_(parts) {}

  // Numbers that follow each other in the matrix, from its element `original` on.
  void add(size_t original, const Element* elements, size_t count) {
    const size_t columns = vectors_.columns;
    while (count) {
      const size_t row = original / columns, column = original % columns;
      const size_t abreast = column ? 0 : loops_.abreast(count / columns);
      const size_t rows = size_t{1} << abreast;
      const size_t some = std::min(columns - column, count);
      add_rows(row, abreast, column, elements, some);
      original += rows * some;
      elements += rows * some;
      count -= rows * some;
    }
  }

 private:
  // Columns column .. column + some - 1 of a few rows.
  void add_rows(size_t row, size_t abreast, size_t column, const Element* elements, size_t some) {
    const size_t rows = size_t{1} << abreast;
    float* const sums = parts_.of(row, rows, vectors_.count);
    const auto loop = loops_.of_rows[abreast];
    const auto whole_groups = [&](size_t at, size_t groups) {
      loop(elements + at, vectors_.columns, factor_.values.data() + column + at, factor_.step,
           vectors_.count, groups, sums);
    };
    size_t at = std::min(some, (kGroup - column % kGroup) % kGroup);
    if (at) add_some(rows, column, elements, 0, at, sums);
    const size_t groups = (some - at) / kGroup;
    if (groups) whole_groups(at, groups);
    at += groups * kGroup;
    if (at < some) add_some(rows, column, elements, at, some - at, sums);
  }

  // Some columns of one group, the rest of which counts as zeros in the vectors, too: what is there may be infinite.
  void add_some(size_t rows, size_t column, const Element* elements, size_t at, size_t some,
                float* sums) {
    const size_t first = (column + at) % kGroup, group = column + at - first;
    for (size_t r = 0; r < rows; ++r)
      for (size_t v = 0; v < vectors_.count; ++v) {
        Element numbers[kGroup] = {};
        With with[kGroup] = {};
        std::memcpy(numbers + first, elements + r * vectors_.columns + at, some * sizeof *numbers);
        for (size_t i = first; i < first + some; ++i) {
          const size_t place = factor_.place(i);
          with[place] = factor_.values[v * factor_.step + group + place];
        }
        loops_.of_rows[0](numbers, 0, with, 0, 1, 1, sums + r * vectors_.count + v);
      }
  }

  const Vectors& vectors_;
  const Factor<Element, With>& factor_;
  const ProductLoops<Element, With>& loops_;
  Parts& parts_;
};

template <typename Element, typename With>
int64_t multiply_all(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                     const Vectors& vectors, Factor<Element, With> factor, bool verify,
                     int threads) {
  factor.arrange(vectors);
  std::vector<Parts> parts(blocks.count);
  const int64_t damaged =
      each_block(plan, arrangement, blocks, verify, threads, [&](const BlockParts& block) {
        Multiplier<Element, With> multiplier(vectors, factor, parts[block.number]);
        const auto add = [&](size_t original, const Element* elements, size_t count) {
          multiplier.add(original, elements, count);
        };
        const auto rows = [&](size_t at, size_t most) {
          return whole_rows<Element>(block.block.start + at, most, vectors.columns, kRowsTogether);
        };
        return vectors.count < kManyVectors
                   ? visit_block<Element, kChunkBytes>(plan, arrangement, block, add, rows)
                   : visit_block<Element, kRowsBytes>(plan, arrangement, block, add, rows);
      });
  std::fill_n(vectors.out, vectors.rows * vectors.count, 0.0f);
  for (const Parts& its : parts)
    for (size_t i = 0; i < its.rows.size(); ++i)
      for (size_t v = 0; v < vectors.count; ++v)
        vectors.out[v * vectors.rows + its.rows[i]] += its.sums[i * vectors.count + v];
  return damaged;
}

}  // namespace

int64_t multiply_blocks(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                        const Vectors& vectors, bool verify, int threads) {
  const int bytes = vectors.number == Number::bfloat16 ? 2 : vectors.number == Number::float32 ? 4 : 1;
  if (plan.element_bytes != bytes || !vectors.columns ||
      arrangement.elements() != vectors.rows * vectors.columns)
    throw std::invalid_argument("the tensor is no matrix of such numbers and columns");
  const AllProductLoops loops = product_loops();
  const auto multiplied = [&](auto factor) {
    return multiply_all(plan, arrangement, blocks, vectors, std::move(factor), verify, threads);
  };
#if defined(__x86_64__)
  if (has_pair_loops() && vectors.number != Number::float32 &&
      are_bfloat16(vectors.values, vectors.columns * vectors.count)) {
    const PairLoops pairs = pair_loops_avx512bf16();
    const auto in_pairs = [&]<typename Element>(const ProductLoops<Element, uint16_t>& its) {
      return multiplied(Factor<Element, uint16_t>{its, in_order, [](float x) {
        return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
      }});
    };
    return vectors.number == Number::int8 ? in_pairs(pairs.int8) : in_pairs(pairs.bfloat16);
  }
#endif
  const auto as_it_is = [](float x) { return x; };
  switch (vectors.number) {
    case Number::bfloat16:
      return multiplied(Factor<uint16_t, float>{loops.bfloat16, evens_first, as_it_is});
    case Number::float32:
      return multiplied(Factor<uint32_t, float>{loops.float32, in_order, as_it_is});
    default: return multiplied(Factor<uint8_t, float>{loops.int8, in_order, as_it_is});
  }
}

}  // namespace fewbits
