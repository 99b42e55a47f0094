#include "lossy_bounded_loops.hpp"

#include <vector>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fewbits {

namespace {

constexpr size_t kThreadBlocks = 4096;  // what a thread takes at least

BoundedLoops loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return bounded_loops_avx512();
  if (simd() == Simd::avx2) return bounded_loops_avx2();
#endif
  return {bounded_encode, bounded_decode};
}

size_t blocks_of(size_t n) { return n / kB + (n % kB != 0); }

int element_bits(Float kind) { return kind == Float::f32 ? 32 : 16; }

// The blocks of one thread, and where their words are.
struct Share {
  size_t first, last, at, words;
};

std::vector<Share> shares_of(size_t blocks, int threads) {
  const size_t parts = std::clamp<size_t>(blocks / kThreadBlocks, 1, static_cast<size_t>(std::max(threads, 1)));
  std::vector<Share> shares(parts);
  for (size_t p = 0; p < parts; ++p) shares[p] = {blocks * p / parts, blocks * (p + 1) / parts, 0, 0};
  return shares;
}

}  // namespace

size_t bound_encode(const Bounder& b, Float kind, const void* x, size_t n, uint32_t* words, uint8_t* entries,
                    int threads) {
  std::vector<Share> shares = shares_of(blocks_of(n), threads);
  const BoundedLoops run = loops();
  parallel_for(shares.size(), threads, [&](size_t i) {
    Share& s = shares[i];
    s.at = s.first * static_cast<size_t>(element_bits(kind));  // room for blocks that are all verbatim
    s.words = run.encode(b, kind, x, n, s.first, s.last, words + s.at, entries);
  });
  size_t total = 0;
  for (const Share& s : shares) {
    if (s.words) std::memmove(words + total, words + s.at, s.words * sizeof *words);
    total += s.words;
  }
  return total;
}

void bound_decode(float step, Float kind, const uint32_t* words, size_t count, const uint8_t* entries,
                  size_t n, void* x, int threads) {
  std::vector<Share> shares = shares_of(blocks_of(n), threads);
  size_t total = 0;
  for (Share& s : shares) {
    s.at = total;
    for (size_t block = s.first; block < s.last; ++block) {
      const int bits = entries[block] & 63;
      if (bits > 32) throw std::invalid_argument("a block's entry says more than 32 bits");
      total += static_cast<size_t>(entries[block] >> 6 == kVerbatim ? element_bits(kind) : bits);
    }
  }
  if (total != count) throw std::invalid_argument("the entries do not ask for as many words as there are");
  const BoundedLoops run = loops();
  parallel_for(shares.size(), threads, [&](size_t i) {
    run.decode(step, kind, words + shares[i].at, entries, n, shares[i].first, shares[i].last, x);
  });
}

}  // namespace fewbits
