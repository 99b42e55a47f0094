#include "lossy_fixedrate_loops.hpp"

#include <numeric>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fewbits {

namespace {

constexpr size_t kThreadElements = size_t{1} << 15;  // what a thread takes at least

FixedRateLoops loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return fixed_loops_avx512();
  if (simd() == Simd::avx2) return fixed_loops_avx2();
#endif
  return {fixed_encode_loop, fixed_decode_loop};
}

void check(const FixedRate& f) {
  const auto places = size_t{1} << (2 * std::clamp(f.dims, 1, 3));
  std::vector<int> sorted = f.order;
  std::sort(sorted.begin(), sorted.end());
  bool sound = f.dims >= 1 && f.dims <= 3 && sorted.size() == places && !f.sizes.empty() &&
               f.sizes.size() <= kMostGroups && f.largest_fall >= 0 && f.largest_fall <= 7 && f.budget % 4 == 0;
  for (size_t i = 0; sound && i < places; ++i) sound = sorted[i] == static_cast<int>(i);
  sound = sound && std::accumulate(f.sizes.begin(), f.sizes.end(), 0) == static_cast<int>(places) &&
          *std::min_element(f.sizes.begin(), f.sizes.end()) > 0 &&
          f.budget >= kExponentBits + static_cast<int>(f.sizes.size() - 1) * std::max(f.largest_fall, 1);
  for (int d = 0; sound && d < 3; ++d) sound = f.size[d] > 0 && (d >= 3 - f.dims || f.size[d] == 1);
  if (!sound) throw std::invalid_argument("fixed rate: the settings contradict each other");
}

// Ranges of blocks that begin a byte: a block is a multiple of half a byte.
template <typename Work>
void each_range(const FixedRate& f, int threads, const Work& work) {
  check(f);
  const size_t blocks = f.blocks(), pairs = blocks / 2 + blocks % 2;
  parallel_ranges(pairs, kThreadElements >> (2 * f.dims + 1), threads, [&](size_t first, size_t last) {
    work(2 * first, std::min(2 * last, blocks));
  });
}

}  // namespace

std::array<size_t, 3> FixedRate::counts() const {
  std::array<size_t, 3> found;
  for (int d = 0; d < 3; ++d) found[d] = d >= 3 - dims ? size[d] / 4 + (size[d] % 4 != 0) : 1;
  return found;
}

size_t FixedRate::blocks() const {
  const auto each = counts();
  return outer * each[0] * each[1] * each[2];
}

size_t FixedRate::bytes() const { return (blocks() * static_cast<size_t>(budget) + 7) / 8; }

void fixed_encode(const FixedRate& f, Float kind, const void* x, uint8_t* payload, int threads) {
  each_range(f, threads,
             [&](size_t first, size_t last) { loops().encode(f, kind, x, first, last, payload); });
}

void fixed_decode(const FixedRate& f, Float kind, const uint8_t* payload, void* x, int threads) {
  each_range(f, threads,
             [&](size_t first, size_t last) { loops().decode(f, kind, payload, first, last, x); });
}

}  // namespace fewbits
