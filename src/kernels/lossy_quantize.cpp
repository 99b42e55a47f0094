#include "lossy_quantize_loops.hpp"

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fewbits {

namespace {

// What a thread takes at least; starting one costs as much as so many elements.
constexpr size_t kThreadElements = size_t{1} << 17;

QuantizeLoops loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return quantize_loops_avx512();
  if (simd() == Simd::avx2) return quantize_loops_avx2();
#endif
  return {encode_groups, decode_groups};
}

template <typename Work>
void each_range(const Quantizer& q, size_t n, int threads, const Work& work) {
  if (q.bits < 1 || q.bits > 8 || q.group < kRuns || q.group % kRuns)
    throw std::invalid_argument("codes have 1 to 8 bits, groups a multiple of 8 elements");
  const size_t groups = n / q.group + (n % q.group != 0);
  parallel_ranges(groups, kThreadElements / q.group, threads, work);
}

}  // namespace

void quantize(const Quantizer& q, Float kind, const void* x, size_t n, uint8_t* codes, uint16_t* grids,
              int threads) {
  each_range(q, n, threads, [&](size_t first, size_t last) {
    loops().encode(q, kind, x, n, first, last, codes, grids);
  });
}

void dequantize(const Quantizer& q, Float kind, const uint8_t* codes, const uint16_t* grids, size_t n,
                void* x, int threads) {
  each_range(q, n, threads, [&](size_t first, size_t last) {
    loops().decode(q, kind, codes, grids, n, first, last, x);
  });
}

}  // namespace fewbits
