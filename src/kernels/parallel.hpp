// Work on several threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>

namespace fewbits {

// Runs work(0) .. work(n - 1) on up to `threads` threads; the first exception is thrown again here.
void parallel_for(size_t n, int threads, const std::function<void(size_t)>& work);

// A function that calls work(data) on so many threads at once, the calling one among them, and waits for all: what
// OpenMP's GOMP_parallel is. Where another library keeps threads that wait for work by spinning, threads of our own
// would have to share the processors with those; so work can go to theirs. Null for threads of our own.
using Team = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);
void set_team(Team team);

// From now on work of this thread goes to threads of our own: where it runs beside that library's work, a second
// team of that library's would be worse.
void work_apart();

// Runs work(first, last) over ranges of `step` or more of n items; one range where there is little to do.
template <typename Range>
void parallel_ranges(size_t n, size_t step, int threads, const Range& work) {
  const size_t parts =
      std::min(n / std::max<size_t>(step, 1), static_cast<size_t>(std::max(threads, 1)));
  if (parts <= 1) return n ? work(size_t{0}, n) : void();
  parallel_for(parts, threads, [&](size_t part) { work(n * part / parts, n * (part + 1) / parts); });
}

}  // namespace fewbits
