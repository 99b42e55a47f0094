// Work on several threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>

namespace fewbits {

// Runs work(0) .. work(n - 1) on up to `threads` threads; the first exception is thrown again here.
void parallel_for(size_t n, int threads, const std::function<void(size_t)>& work);

// Runs work(first, last) over ranges of `step` or more of n items; one range where there is little to do.
template <typename Range>
void parallel_ranges(size_t n, size_t step, int threads, const Range& work) {
  const size_t parts =
      std::min(n / std::max<size_t>(step, 1), static_cast<size_t>(std::max(threads, 1)));
  if (parts <= 1) return n ? work(size_t{0}, n) : void();
  parallel_for(parts, threads, [&](size_t part) { work(n * part / parts, n * (part + 1) / parts); });
}

}  // namespace fewbits
