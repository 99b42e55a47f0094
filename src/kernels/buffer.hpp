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

inline Bytes allocate_bytes(size_t size) {
  constexpr size_t large_page = size_t{1} << 21;
  if (size < 2 * large_page) {
    auto* const p = static_cast<uint8_t*>(std::malloc(size ? size : 1));
    if (!p) throw std::bad_alloc();
    return Bytes(p);
  }
  const size_t rounded = (size + large_page - 1) / large_page * large_page;
  auto* const p = static_cast<uint8_t*>(std::aligned_alloc(large_page, rounded));
  if (!p) throw std::bad_alloc();
#if defined(__linux__)
  madvise(p, rounded, MADV_HUGEPAGE);
#endif
  return Bytes(p);
}

}  // namespace fewbits
