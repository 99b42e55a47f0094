// Copies past the caches: a line that is written whole need not be read first, and what is larger than the caches
// would not be found in them later anyway.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fewbits {

// From here on caches do not hold the whole of what is written (bytes; about what one core has of a last level).
inline constexpr size_t kPastCaches = size_t{1} << 24;

// Copies whole lines past the caches, what is left at both ends by way of them. Other threads see it after
// finish_copies().
inline void copy_past_caches(uint8_t* to, const uint8_t* from, size_t n) {
#if defined(__SSE2__)
  constexpr size_t line = 64;
  const size_t head = std::min(n, -reinterpret_cast<uintptr_t>(to) % line);
  const size_t lines_end = head + (n - head) / line * line;
  std::memcpy(to, from, head);
  for (size_t at = head; at < lines_end; at += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
  std::memcpy(to + lines_end, from + lines_end, n - lines_end);
#else
  std::memcpy(to, from, n);
#endif
}

inline void finish_copies() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace fewbits
