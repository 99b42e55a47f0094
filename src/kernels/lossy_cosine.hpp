// One pass of the cosine transform for many lines at once; the specification is src/fewbits/lossy/cosine.py.
//
// Place or frequency i of line j is `[i][j]`. Sums are in the order of the specification, and are over the lines
// that lie side by side, so that they are plain vector operations.
#pragma once

#include <algorithm>
#include <cstddef>

// Lines do not overlap, or are replaced by their own results; a compiler cannot see that.
#if defined(__clang__)
#define FEWBITS_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define FEWBITS_APART _Pragma("GCC ivdep")
#endif

namespace fewbits {

// Multipliers by [frequency][place of the first half], as cosine.py rounds them.
template <int N>
struct CosineWeights {
  float forward[N][N / 2], inverse[N][N / 2];
};

namespace {

// Frequencies 0 .. Kept-1 of N places: to[k][j] from[i][j], j < lines.
template <int N, int Kept>
void cosine_low(const CosineWeights<N>& w, const float* const* from, size_t lines, float* const* to) {
  const float* at[N];
  float* out[Kept];
  std::copy_n(from, N, at);
  std::copy_n(to, Kept, out);
  FEWBITS_APART
  for (size_t j = 0; j < lines; ++j) {
    float half[2][N / 2];
    for (int i = 0; i < N / 2; ++i) {
      half[0][i] = at[i][j] + at[N - 1 - i][j];
      half[1][i] = at[i][j] - at[N - 1 - i][j];
    }
    for (int k = 0; k < Kept; ++k) {
      float total = half[k % 2][0] * w.forward[k][0];
      for (int i = 1; i < N / 2; ++i) total = total + half[k % 2][i] * w.forward[k][i];
      out[k][j] = total;
    }
  }
}

// All N places from frequencies 0 .. Kept-1: to[i][j] of from[k][j].
template <int N, int Kept>
void cosine_line(const CosineWeights<N>& w, const float* const* from, size_t lines, float* const* to) {
  const float* in[Kept];
  float* at[N];
  std::copy_n(from, Kept, in);
  std::copy_n(to, N, at);
  FEWBITS_APART
  for (size_t j = 0; j < lines; ++j) {
    float f[Kept];
    for (int k = 0; k < Kept; ++k) f[k] = in[k][j];
    for (int i = 0; i < N / 2; ++i) {
      float even = f[0] * w.inverse[0][i];
      for (int k = 2; k < Kept; k += 2) even = even + f[k] * w.inverse[k][i];
      if constexpr (Kept == 1) {
        at[i][j] = at[N - 1 - i][j] = even;
      } else {
        float odd = f[1] * w.inverse[1][i];
        for (int k = 3; k < Kept; k += 2) odd = odd + f[k] * w.inverse[k][i];
        at[i][j] = even + odd;
        at[N - 1 - i][j] = even - odd;
      }
    }
  }
}

}  // namespace

}  // namespace fewbits
