// Memory for large results: not zeroed, and on large pages where the system has them.
//
// Fresh memory in 4 KiB pages costs more time to touch than coding does to fill it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fewbits {

struct FreeBytes {
  void operator()(uint8_t* p) const { std::free(p); }
};
using Bytes = std::unique_ptr<uint8_t[], FreeBytes>;

inline constexpr size_t kLargePage = size_t{1} << 21;

// Asks for large pages wherever one fits in memory that was just allocated. Too little memory is left as it is.
inline void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t size) {
#if defined(__linux__)
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t last = (begin + size) / kLargePage * kLargePage;
  if (size >= 2 * kLargePage && first < last)
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

inline Bytes allocate_bytes(size_t size) {
  uint8_t* p;
  if (size < 2 * kLargePage) {
    p = static_cast<uint8_t*>(std::malloc(size ? size : 1));
  } else {
    size = (size + kLargePage - 1) / kLargePage * kLargePage;
    p = static_cast<uint8_t*>(std::aligned_alloc(kLargePage, size));
  }
  if (!p) throw std::bad_alloc();
  prefer_large_pages(p, size);
  return Bytes(p);
}

}  // namespace fewbits
