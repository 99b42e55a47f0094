#include "lossy_dct_loops.hpp"

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fewbits {

namespace {

constexpr size_t kThreadElements = size_t{1} << 17;  // what a thread takes at least

DctLoops loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return dct_loops_avx512();
  if (simd() == Simd::avx2) return dct_loops_avx2();
#endif
  return {dct_encode_loop, dct_decode_loop};
}

template <typename Work>
void each_range(const Dct& d, int threads, const Work& work) {
  if (d.chop < 1 || d.chop > kSide || !d.height || !d.width)
    throw std::invalid_argument("dct: chop is 1 to 8, maps are not empty");
  const size_t row = kSide * kSide * d.block_columns();
  parallel_ranges(d.planes * d.block_rows(), kThreadElements / row + 1, threads, work);
}

}  // namespace

void dct_encode(const Dct& d, Float kind, const void* x, void* coefficients, int threads) {
  each_range(d, threads,
             [&](size_t first, size_t last) { loops().encode(d, kind, x, first, last, coefficients); });
}

void dct_decode(const Dct& d, Float kind, const void* coefficients, void* x, int threads) {
  each_range(d, threads,
             [&](size_t first, size_t last) { loops().decode(d, kind, coefficients, first, last, x); });
}

}  // namespace fewbits
