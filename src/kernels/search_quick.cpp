// The dynamic program of search.cpp in vectors (search_loops.hpp), and the way back.
#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "search_loops.hpp"
#include "search.hpp"

namespace fewbits {

QuickLoops quick_loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return quick_loops_avx512();
  if (simd() == Simd::avx2) return quick_loops_avx2();
#endif
  return kQuickLoops;
}

Boundaries quick_search(const Candidates& candidates, const RowCost& cost, size_t rows) {
  const size_t n = candidates.last();
  rows = std::min(rows, n);
  const double total = candidates.below[n], scale = total < (1 << 30) ? 1 : (1 << 30) / total;
  std::vector<int32_t> below(n + 1 + kLanes), first(n + 1 + kLanes), past(n + 1);
  std::copy(candidates.first.begin(), candidates.first.end(), first.begin());
  std::copy(candidates.past.begin(), candidates.past.end(), past.begin());
  for (size_t i = 0; i <= n; ++i) below[i] = static_cast<int32_t>(candidates.below[i] * scale);
  const QuickRows quick{n,
                        rows <= 4 ? 4 : (rows + kLanes - 1) / kLanes * kLanes,
                        below.data(),
                        first.data(),
                        past.data(),
                        static_cast<float>(cost.rare * scale),
                        static_cast<float>(std::log2(std::max(total * scale, 1.0))),
                        static_cast<float>(cost.log2_counts),
                        static_cast<float>(cost.verbatim_bits),
                        int64_t{1} << cost.max_offset_length};
  const QuickLoops loops = quick_loops();
  std::vector<float> before((n + 1) * quick.stride + 1), costs(n + kLanes);
  std::vector<uint32_t> lowest(n + 1);
  loops.fill(quick, before.data(), lowest.data(), costs.data());
  const float* const all = before.data() + n * quick.stride;
  size_t k = 1;
  for (size_t more = 2; more <= rows; ++more)
    if (all[more] < all[k]) k = more;
  if (all[k] >= kHuge) return {};
  Boundaries boundaries(k + 1);
  for (boundaries[k] = static_cast<uint32_t>(n); k > 0; --k) {
    const size_t b = boundaries[k], low = lowest[b];
    loops.row_costs(quick, low, b, costs.data());
    float least = 2 * kHuge;
    for (size_t a = low; a < b; ++a) {
      const float c = before[a * quick.stride + k - 1] + costs[a - low];
      if (c < least) {
        least = c;
        boundaries[k - 1] = static_cast<uint32_t>(a);
      }
    }
  }
  return boundaries;
}

}  // namespace fewbits
