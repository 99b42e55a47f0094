// The loops of the 8 x 8 transform, compiled once for each instruction set.
//
// Rows of blocks are taken some at a time. The vertical pass runs along the rows as they lie; what it kept is
// then put place by place, block after block, for the horizontal pass, whose results lie as they are stored.
#pragma once

#include <algorithm>
#include <vector>

#include "lossy_dct.hpp"

namespace fewbits {

namespace {

constexpr size_t kBlocksAtOnce = 128;  // 8 rows of them stay in a first-level cache

using Line = std::array<float*, kSide>;

struct DctSpace {
  size_t columns, rows_at_once, blocks;  // blocks: room for so many
  std::vector<float> rows, places, columns_of;

  explicit DctSpace(const Dct& d)
      : columns(d.block_columns()),
        rows_at_once(std::max<size_t>(1, kBlocksAtOnce / columns)),
        blocks(columns * rows_at_once),
        rows(kSide * kSide * columns),
        places(kSide * kSide * blocks),
        columns_of(2 * kSide * blocks) {}
};

inline Line lines(float* first, size_t length) {
  Line line;
  for (size_t i = 0; i < kSide; ++i) line[i] = first + i * length;
  return line;
}

// Rows of a map as floats, its last column repeated up to whole blocks.
template <typename T>
const float* wide_row(const Dct& d, const T* row, float* space) {
  if constexpr (std::is_same_v<T, float>)
    if (d.width % kSide == 0) return row;
  for (size_t j = 0; j < d.width; ++j) space[j] = widen(row[j]);
  for (size_t j = d.width; j < kSide * d.block_columns(); ++j) space[j] = space[d.width - 1];
  return space;
}

template <typename T, int Chop>
void dct_encode_rows(const Dct& d, const T* x, size_t first, size_t last, T* coefficients) {
  DctSpace space(d);
  const size_t width = kSide * space.columns, all = d.planes * d.block_rows() * space.columns;
  for (size_t row = first; row < last; row += space.rows_at_once) {
    const size_t count = std::min(space.rows_at_once, last - row), blocks = count * space.columns;
    const Line kept = lines(space.places.data(), kSide * space.blocks);
    for (size_t r = 0; r < count; ++r) {
      const size_t plane = (row + r) / d.block_rows(), top = (row + r) % d.block_rows() * kSide;
      std::array<const float*, kSide> in;
      Line out;
      for (size_t i = 0; i < kSide; ++i) {
        const size_t line = std::min(top + i, d.height - 1);
        in[i] = wide_row(d, x + (plane * d.height + line) * d.width, space.rows.data() + i * width);
        out[i] = kept[i] + r * width;
      }
      cosine_low<kSide, Chop>(d.weights, in.data(), width, out.data());
    }
    const Line at = lines(space.columns_of.data(), space.blocks);
    const Line found = lines(space.columns_of.data() + kSide * space.blocks, space.blocks);
    for (int u = 0; u < Chop; ++u) {
      for (size_t b = 0; b < blocks; ++b)
        for (size_t i = 0; i < kSide; ++i) at[i][b] = kept[u][kSide * b + i];
      cosine_low<kSide, Chop>(d.weights, at.data(), blocks, found.data());
      for (int v = 0; v < Chop; ++v) {
        const int slot = d.slot[u * kSide + v];
        if (slot < 0) continue;
        T* const out = coefficients + static_cast<size_t>(slot) * all + row * space.columns;
        for (size_t b = 0; b < blocks; ++b) out[b] = stored<T>(found[v][b]);
      }
    }
  }
}

// What the transform overshoots by must not become an infinity; NaN stays.
template <typename T>
T narrow_within(float x) {
  if constexpr (std::is_same_v<T, F16>) {
    x = x > 65504.0f ? 65504.0f : x;
    x = x < -65504.0f ? -65504.0f : x;
  }
  return stored<T>(x);
}

template <typename T, int Chop>
void dct_decode_rows(const Dct& d, const T* coefficients, size_t first, size_t last, T* x) {
  DctSpace space(d);
  const size_t width = kSide * space.columns, all = d.planes * d.block_rows() * space.columns;
  for (size_t row = first; row < last; row += space.rows_at_once) {
    const size_t count = std::min(space.rows_at_once, last - row), blocks = count * space.columns;
    const Line kept = lines(space.places.data(), kSide * space.blocks);
    const Line at = lines(space.columns_of.data(), space.blocks);
    const Line found = lines(space.columns_of.data() + kSide * space.blocks, space.blocks);
    for (int u = 0; u < Chop; ++u) {
      for (int v = 0; v < Chop; ++v) {
        const int slot = d.slot[u * kSide + v];
        const T* const in =
            slot < 0 ? nullptr : coefficients + static_cast<size_t>(slot) * all + row * space.columns;
        for (size_t b = 0; b < blocks; ++b) found[v][b] = in ? widen(in[b]) : 0.0f;
      }
      cosine_line<kSide, Chop>(d.weights, found.data(), blocks, at.data());
      for (size_t b = 0; b < blocks; ++b)
        for (size_t i = 0; i < kSide; ++i) kept[u][kSide * b + i] = at[i][b];
    }
    for (size_t r = 0; r < count; ++r) {
      const size_t plane = (row + r) / d.block_rows(), top = (row + r) % d.block_rows() * kSide;
      std::array<const float*, kSide> in;
      for (int u = 0; u < kSide; ++u) in[u] = kept[u] + r * width;
      cosine_line<kSide, Chop>(d.weights, in.data(), width, lines(space.rows.data(), width).data());
      for (size_t i = 0; i < std::min<size_t>(kSide, d.height - top); ++i) {
        T* const out = x + (plane * d.height + top + i) * d.width;
        const float* const line = space.rows.data() + i * width;
        for (size_t j = 0; j < d.width; ++j) out[j] = narrow_within<T>(line[j]);
      }
    }
  }
}

// Calls work(std::integral_constant<int, chop>) for 1 to 8.
template <typename Work>
void with_chop(int chop, const Work& work) {
  with_bits(chop, work);
}

[[maybe_unused]] void dct_encode_loop(const Dct& d, Float kind, const void* x, size_t first, size_t last,
                                      void* coefficients) {
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    with_chop(d.chop, [&](auto chop) {
      dct_encode_rows<T, chop>(d, static_cast<const T*>(x), first, last, static_cast<T*>(coefficients));
    });
  });
}

[[maybe_unused]] void dct_decode_loop(const Dct& d, Float kind, const void* coefficients, size_t first,
                                      size_t last, void* x) {
  with_float(kind, [&](auto zero) {
    using T = decltype(zero);
    with_chop(d.chop, [&](auto chop) {
      dct_decode_rows<T, chop>(d, static_cast<const T*>(coefficients), first, last, static_cast<T*>(x));
    });
  });
}

}  // namespace

}  // namespace fewbits
