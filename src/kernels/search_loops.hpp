// The loops of choosing that run on many floats: the program over rows, and the prices of runs of bins.
//
// Twist of the program: with the number of rows as a vector's lanes, a row from a to b is one addition and one
// minimum for all of them at once,
//
//   least[b][k] = min over a of least[a][k - 1] + cost(a, b),
//
// and its cost is needed only once, so that none is kept. Costs are single floats: a few millionths of a bit a
// value do not matter, and the counts that tables get are made from whole numbers again.
//
// Every instruction set gives the same floats: sums have a fixed order, and no multiplication is fused with an
// addition (CMakeLists.txt).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "search_log2.hpp"

namespace fewbits {

inline constexpr float kHuge = 1e30f;  // more than any cost, and than many of them together
inline constexpr size_t kLanes = 16;

// Candidates and costs as search.hpp has them, in numbers of 30 bits, which differ exactly.
struct QuickRows {
  size_t last;    // the last candidate
  size_t stride;  // 4, or the number of rows rounded up to a multiple of kLanes
  const int32_t *below, *first, *past;  // readable kLanes further
  float rare, log2_total, log2_counts, verbatim_bits;
  int64_t reach;  // a row holds at most so many values
};

// Values that a glance looks at together.
inline constexpr size_t kGlance = 64;

struct QuickLoops {
  // What the rows from `low`, low + 1, ... to b cost; `out` has room for kLanes more.
  void (*row_costs)(const QuickRows& rows, size_t low, size_t b, float* out);
  // before[a * stride + k]: the least cost of what lies before candidate a in k < stride rows; of the last one,
  // in up to stride rows. lowest[b]: the first from which a row may reach b. `costs` is scratch for
  // `last` floats and kLanes more.
  void (*fill)(const QuickRows& rows, float* before, uint32_t* lowest, float* costs);
  // Bits by order-0 entropy of bins first .. last - 1 taken together, in bits[first * (bins + 1) + last], and how
  // many values they are. below: (bins + 1) x columns occurrences in the bins before; columns go by kLanes.
  void (*bin_costs)(const float* below, size_t bins, size_t columns, float* bits, float* totals);
  // The sum of the values' top bytes, of less than 2^24 values; and for every kGlance of them how far above `low`
  // they go, those below it being furthest.
  uint32_t (*glance8)(const uint8_t* values, size_t n, uint8_t low, uint8_t* furthest);
  uint32_t (*glance16)(const uint16_t* values, size_t n, uint16_t low, uint16_t* furthest);
};

// Those of the instruction set in use.
QuickLoops quick_loops();
QuickLoops quick_loops_avx2();
QuickLoops quick_loops_avx512();

namespace {  // the same source is compiled for several instruction sets

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

// A vector from anywhere in memory: a reference to a vector type of less alignment loses that in a template.
template <typename Vector>
inline Vector load(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline void row_costs(const QuickRows& rows, size_t low, size_t b, float* out) {
  constexpr float log2_e = 1.4426950408889634f;
  for (size_t a = low; a < b; a += kLanes) {
    const Ints below = load<Ints>(rows.below + a);
    const Ints first = load<Ints>(rows.first + a);
    const Floats occurrences = __builtin_convertvector(rows.below[b] - below, Floats);
    const Floats offset = __builtin_convertvector(rows.past[b] - 1 - first, Floats);  // the row's last
    const Ints bits = (Ints)offset;
    const Floats length = __builtin_convertvector((bits >> 23) - 126, Floats);
    const Floats stored = length > rows.verbatim_bits ? length : Floats{} + rows.verbatim_bits;
    const Floats common = occurrences * (rows.log2_total - quick_log2<Floats, Ints>(occurrences));
    const Floats seldom = occurrences * rows.log2_counts + (rows.rare - occurrences) * log2_e;
    const Floats symbols = occurrences < rows.rare ? seldom : common;
    const Floats bits_of_rows = symbols + occurrences * stored;
    std::memcpy(out + (a - low), &bits_of_rows, sizeof bits_of_rows);
  }
}

template <size_t kWidth>
void fill_lanes(const QuickRows& rows, float* before, uint32_t* lowest, float* costs) {
  typedef float Lanes __attribute__((vector_size(4 * kWidth)));
  const size_t stride = rows.stride;
  std::fill_n(before, (rows.last + 1) * stride + 1, kHuge);
  before[0] = 0;
  lowest[0] = 0;
  for (size_t b = 1, low = 0; b <= rows.last; ++b) {
    while (rows.past[b] - int64_t{rows.first[low]} > rows.reach) ++low;
    lowest[b] = static_cast<uint32_t>(low);
    row_costs(rows, low, b, costs);
    const size_t n = b - low;
    for (size_t lane = 0; lane < stride; lane += kWidth) {
      Lanes best[4];
      for (Lanes& one : best) one = Lanes{} + kHuge;
      const float* from = before + low * stride + lane;
      const auto lower = [&](Lanes& least, float cost) {
        Lanes through;
        std::memcpy(&through, from, sizeof through);
        through += cost;
        least = through < least ? through : least;
        from += stride;
      };
      size_t i = 0;
      for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; ++j) lower(best[j], costs[i + j]);
      for (; i < n; ++i) lower(best[0], costs[i]);
      best[0] = best[1] < best[0] ? best[1] : best[0];
      best[2] = best[3] < best[2] ? best[3] : best[2];
      best[0] = best[2] < best[0] ? best[2] : best[0];
      // One lane further, as these rows are one more. What leaves the line is written over by the next.
      std::memcpy(before + b * stride + lane + 1, &best[0], sizeof(Lanes));
    }
    before[b * stride] = kHuge;
  }
}

inline void fill(const QuickRows& rows, float* before, uint32_t* lowest, float* costs) {
  if (rows.stride == 4) fill_lanes<4>(rows, before, lowest, costs);
  else fill_lanes<kLanes>(rows, before, lowest, costs);
}

inline float log2_of_one(float x) {
  const Floats all = quick_log2<Floats, Ints>(Floats{} + x);
  return all[0];
}

inline void bin_costs(const float* below, size_t bins, size_t columns, float* bits, float* totals) {
  for (size_t first = 0; first < bins; ++first)
    for (size_t last = first + 1; last <= bins; ++last) {
      const float* const from = below + first * columns;
      const float* const to = below + last * columns;
      Floats sums{}, terms{};
      for (size_t c = 0; c < columns; c += kLanes) {
        const Floats n = load<Floats>(to + c) - load<Floats>(from + c);
        sums += n;
        terms += n * quick_log2<Floats, Ints>(n);
      }
      float total = 0, spared = 0;
      for (size_t i = 0; i < kLanes; ++i) total += sums[i], spared += terms[i];
      totals[first * (bins + 1) + last] = total;
      bits[first * (bins + 1) + last] = total * log2_of_one(total) - spared;
    }
}

template <typename Value>
uint32_t glance(const Value* values, size_t n, Value low, Value* furthest) {
  constexpr int below = 8 * (sizeof(Value) - 1);
  uint32_t sum = 0;
  for (size_t at = 0; at < n; at += kGlance) {
    const size_t end = at + kGlance < n ? at + kGlance : n;
    Value most = 0;
    for (size_t i = at; i < end; ++i) {
      const auto distance = static_cast<Value>(values[i] - low);
      most = distance > most ? distance : most;
      sum += static_cast<uint32_t>(values[i] >> below);
    }
    furthest[at / kGlance] = most;
  }
  return sum;
}

inline constexpr QuickLoops kQuickLoops = {row_costs, fill, bin_costs, glance<uint8_t>, glance<uint16_t>};

}  // namespace

}  // namespace fewbits
