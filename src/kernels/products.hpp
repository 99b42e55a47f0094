// The product of a packed matrix and a few vectors, computed while the matrix is decoded.
//
// A matrix that is unpacked first goes to memory and comes back; here each chunk is multiplied while it is in
// the first-level cache. Sums are in float32, 32 of them side by side and then folded, and the parts of a row
// are added in the order of the blocks: so the result hangs neither on the instruction set nor on the threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "blocks.hpp"

namespace fewbits {

enum class Number : uint8_t { bfloat16 = 0, float32 = 1, int8 = 2 };

// The loops are private to each source that includes them, as those of planes.hpp.
namespace {

using Floats = float __attribute__((vector_size(64)));
using EightFloats = float __attribute__((vector_size(32)));
using FourFloats = float __attribute__((vector_size(16)));
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

// The sum of a vector's halves.
template <typename Half, typename Vector>
Half folded(const Vector& vector) {
  Half halves[2];
  static_assert(sizeof halves == sizeof vector);
  std::memcpy(halves, &vector, sizeof vector);
  return halves[0] + halves[1];
}

// A kind of numbers is multiplied kGroup of them at a time: Numbers of a row with Withs of a vector, which stand as
// the kind arranges them, into a Sum.
inline constexpr size_t kGroup = 32;

struct Pair {
  Floats first, second;
};

// Where a number of a group stands among those of its registers.
inline size_t in_order(size_t i) { return i; }
inline size_t evens_first(size_t i) { return i / 2 + (i % 2 ? kGroup / 2 : 0); }

// Numbers that become float32, in two registers.
struct InFloats {
  using With = float;
  using Numbers = Pair;
  using Sum = Pair;
  static Pair load_with(const float* from) {
    return {load_vector<Floats>(from), load_vector<Floats>(from + kGroup / 2)};
  }
  static void add(Sum& sum, const Pair& numbers, const Pair& with) {
    sum.first += numbers.first * with.first;
    sum.second += numbers.second * with.second;
  }
  static Floats total(const Sum& sum) { return sum.first + sum.second; }
};

// Each 32 bits hold two, so they come with evens_first; the other kinds in_order.
struct Bfloat16 : InFloats {
  using Element = uint16_t;
  static Pair load(const Element* from) {
    const auto words = load_vector<Words>(from);
    return {reinterpret_cast<Floats>(words << 16), reinterpret_cast<Floats>(words & 0xFFFF0000)};
  }
};
struct Float32 : InFloats {
  using Element = uint32_t;
  static Pair load(const Element* from) {
    return {load_vector<Floats>(from), load_vector<Floats>(from + 16)};
  }
};
struct Int8 : InFloats {
  using Element = uint8_t;
  static Floats sixteen(const Element* from) {
    // In steps: compilers know one instruction for each of them, but take numbers apart for all at once.
    const auto wider = __builtin_convertvector(load_vector<SmallIntegers>(from), ShortIntegers);
    return __builtin_convertvector(__builtin_convertvector(wider, Integers), Floats);
  }
  static Pair load(const Element* from) { return {sixteen(from), sixteen(from + 16)}; }
};

// Adds the products of `n` groups of some rows, one `row_step` behind the other, with some vectors, one `vector_step`
// behind the other. Sums stay in the order of the groups.
template <typename Kind, size_t kRows, size_t kVectors>
void add_products(const typename Kind::Element* rows, size_t row_step,
                  const typename Kind::With* vectors, size_t vector_step, size_t n, float* sums,
                  size_t sums_step) {
  typename Kind::Sum total[kRows][kVectors] = {};
  for (size_t g = 0; g < n; ++g) {
    typename Kind::Numbers numbers[kRows];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) numbers[r] = Kind::load(rows + r * row_step + g * kGroup);
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const auto with = Kind::load_with(vectors + v * vector_step + g * kGroup);
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) Kind::add(total[r][v], numbers[r], with);
    }
  }
  for (size_t r = 0; r < kRows; ++r)
    for (size_t v = 0; v < kVectors; ++v) {
      const auto four = folded<FourFloats>(folded<EightFloats>(Kind::total(total[r][v])));
      sums[r * sums_step + v] += (four[0] + four[2]) + (four[1] + four[3]);
    }
}

// The same for any number of vectors, kVectors of them side by side.
template <typename Kind, size_t kRows, size_t kVectors>
void add_all_products(const typename Kind::Element* rows, size_t row_step,
                      const typename Kind::With* vectors, size_t vector_step, size_t count,
                      size_t n, float* sums) {
  size_t v = 0;
  for (; v + kVectors <= count; v += kVectors)
    add_products<Kind, kRows, kVectors>(rows, row_step, vectors + v * vector_step, vector_step, n,
                                        sums + v, count);
  for (; v < count; ++v)
    add_products<Kind, kRows, 1>(rows, row_step, vectors + v * vector_step, vector_step, n, sums + v,
                                 count);
}

// How many rows (as an index of ProductLoops::of_rows) and vectors go side by side, as far as registers hold their sums:
// they share what is loaded of each other, and one adds while another waits. It changes nothing in the sums.
#if defined(__AVX512F__)
inline constexpr size_t kMostRows = 2, kVectorsAbreast = 2;
#else
inline constexpr size_t kMostRows = 1, kVectorsAbreast = 1;
#endif

}  // namespace

template <typename Element, typename With>
struct ProductLoops {
  using Loop = void (*)(const Element* rows, size_t row_step, const With* vectors,
                        size_t vector_step, size_t count, size_t n, float* sums);
  Loop of_rows[3];  // for 1, 2 and 4 rows
  size_t most;      // of these, that registers hold

  // As many rows as go side by side where there are so many, as an index of of_rows.
  size_t abreast(size_t rows) const {
    return rows < 2 ? 0 : std::min<size_t>(rows < 4 ? 1 : 2, most);
  }
};

struct AllProductLoops {
  ProductLoops<uint16_t, float> bfloat16;
  ProductLoops<uint32_t, float> float32;
  ProductLoops<uint8_t, float> int8;
};

namespace {
template <typename Kind, size_t kMost, size_t kVectors>
inline constexpr ProductLoops<typename Kind::Element, typename Kind::With> kLoopsOf = {
    {add_all_products<Kind, 1, kVectors>, add_all_products<Kind, 2, kVectors>,
     add_all_products<Kind, 4, kVectors>},
    kMost};
inline constexpr AllProductLoops kProductLoops = {
    kLoopsOf<Bfloat16, kMostRows, kVectorsAbreast>, kLoopsOf<Float32, kMostRows, kVectorsAbreast>,
    kLoopsOf<Int8, kMostRows, kVectorsAbreast>};
}  // namespace

AllProductLoops product_loops_avx2();
AllProductLoops product_loops_avx512();

// Where a processor multiplies pairs of bfloat16 by itself: for vectors that are bfloat16. Sums differ from those
// above in the last bits, as the instruction rounds in its own way.
struct PairLoops {
  ProductLoops<uint16_t, uint16_t> bfloat16;
  ProductLoops<uint8_t, uint16_t> int8;
};
PairLoops pair_loops_avx512bf16();

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
