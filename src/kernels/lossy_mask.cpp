#include "lossy_mask_loops.hpp"

#include <atomic>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fewbits {

namespace {

constexpr size_t kThreadRows = (size_t{1} << 18) / kMaskRow;

MaskLoops loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return mask_loops_avx512();
  if (simd() == Simd::avx2) return mask_loops_avx2();
#endif
  return {pack_rows, apply_rows, spread_rows};
}

template <typename Work>
void each_range(size_t n, int threads, const Work& work) {
  parallel_ranges(n / kMaskRow + (n % kMaskRow != 0), kThreadRows, threads, work);
}

}  // namespace

bool pack_mask(Float kind, const void* x, size_t n, uint8_t* bits, int threads) {
  std::atomic<bool> below{false};
  each_range(n, threads, [&](size_t first, size_t last) {
    if (loops().pack(kind, x, n, first, last, bits)) below = true;
  });
  return below;
}

void apply_mask(Float kind, const void* x, const uint8_t* bits, size_t n, bool positive, void* out,
                int threads) {
  each_range(n, threads, [&](size_t first, size_t last) {
    loops().apply(kind, x, bits, n, first, last, positive, out);
  });
}

void spread_mask(Float kind, const void* value, const uint8_t* bits, size_t n, void* out, int threads) {
  each_range(n, threads, [&](size_t first, size_t last) {
    loops().spread(kind, value, bits, n, first, last, out);
  });
}

}  // namespace fewbits
