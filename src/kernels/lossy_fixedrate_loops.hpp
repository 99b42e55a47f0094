// The loops of fixed-rate blocks, compiled once for each instruction set.
#pragma once

#include <algorithm>
#include <limits>

#include "lossy_fixedrate.hpp"

namespace fewbits {

namespace {

constexpr int kMostBits = 24, kExponentBits = 8, kNotFinite = 255, kMostGroups = 10, kMostElements = 64;

// Bits in memory order, the first the lowest of the first byte.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) : out_(out) {}

  // At most 32 bits, those above them 0.
  void put(uint32_t value, int bits) {
    held_ |= uint64_t{value} << fill_;
    fill_ += bits;
    if (fill_ < 32) return;
    const auto low = static_cast<uint32_t>(held_);
    std::memcpy(out_, &low, 4);
    out_ += 4;
    held_ >>= 32;
    fill_ -= 32;
  }

  void zeros(int bits) {
    for (; bits > 0; bits -= 32) put(0, std::min(bits, 32));
  }

  void finish() {
    for (; fill_ > 0; fill_ -= 8, held_ >>= 8) *out_++ = static_cast<uint8_t>(held_);
  }

 private:
  uint8_t* out_;
  uint64_t held_ = 0;
  int fill_ = 0;
};

class BitReader {
 public:
  BitReader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // At most 32 bits from a place; zeros beyond the end.
  uint32_t get(size_t place, int bits) const {
    uint64_t word = 0;
    const size_t byte = place >> 3;
    if (byte + 8 <= size_)
      std::memcpy(&word, data_ + byte, 8);
    else if (byte < size_)
      std::memcpy(&word, data_ + byte, size_ - byte);
    return static_cast<uint32_t>(word >> (place & 7) & ((uint64_t{1} << bits) - 1));
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// What a block says of itself, and what follows from it.
struct BlockHeader {
  int exponent, header_bits;
  int falls[kMostGroups], bits[kMostGroups];
};

[[maybe_unused]] inline float power(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(std::clamp(exponent, -126, 127) + 127) << 23);
}

// How many bits each group gets; both sides compute this alike.
[[maybe_unused]] inline void allot(const FixedRate& f, BlockHeader& h) {
  const int groups = static_cast<int>(f.sizes.size());
  h.header_bits = kExponentBits;
  for (int g = 1; g < groups; ++g) {
    const int step = h.falls[g] - h.falls[g - 1];
    h.header_bits += step + (step < f.largest_fall);
  }
  const int room = f.budget - h.header_bits;
  const auto cost = [&](int level) {
    int total = 0;
    for (int g = 0; g < groups; ++g) total += std::max(0, level - h.falls[g]) * f.sizes[g];
    return total;
  };
  int level = 0;
  while (level < kMostBits && cost(level + 1) <= room) ++level;
  int left = room;
  for (int g = 0; g < groups; ++g) {
    h.bits[g] = std::max(0, level - h.falls[g]);
    left -= h.bits[g] * f.sizes[g];
  }
  for (int g = 0; g < groups; ++g)
    if (level >= h.falls[g] && left >= f.sizes[g] && h.bits[g] < kMostBits) {
      ++h.bits[g];
      left -= f.sizes[g];
    }
}

template <int Dims, bool Forward>
void transform(const CosineWeights<4>& w, float* c) {
  constexpr int all = 1 << (2 * Dims);
  for (int pass = 0; pass < Dims; ++pass) {
    const int stride = 1 << 2 * (Forward ? Dims - 1 - pass : pass);
    for (int base = 0; base < all; base += 4 * stride) {
      float* line[4];
      for (int i = 0; i < 4; ++i) line[i] = c + base + i * stride;
      if constexpr (Forward)
        cosine_low<4, 4>(w, line, static_cast<size_t>(stride), line);
      else
        cosine_line<4, 4>(w, line, static_cast<size_t>(stride), line);
    }
  }
}

[[maybe_unused]] inline void measure(const FixedRate& f, const float* c, BlockHeader& h) {
  const int groups = static_cast<int>(f.sizes.size());
  int own[kMostGroups];
  for (int g = 0; g < groups; ++g) {
    uint32_t most = 0;
    for (const float* const end = c + f.sizes[g]; c != end; ++c)
      most = std::max(most, std::bit_cast<uint32_t>(*c) & 0x7fffffff);
    own[g] = static_cast<int>(most >> 23);
  }
  for (int g = groups - 1; g > 0; --g) own[g - 1] = std::max(own[g - 1], own[g]);
  h.exponent = own[0];
  h.falls[0] = 0;
  for (int g = 1; g < groups; ++g)
    h.falls[g] = std::min(own[0] - own[g], h.falls[g - 1] + f.largest_fall);
  allot(f, h);
}

[[maybe_unused]] inline bool is_silent(int exponent) { return exponent == 0 || exponent == kNotFinite; }

[[maybe_unused]] inline void write_block(const FixedRate& f, const float* c, BitWriter& out) {
  BlockHeader h;
  measure(f, c, h);
  out.put(static_cast<uint32_t>(h.exponent), kExponentBits);
  if (is_silent(h.exponent)) return out.zeros(f.budget - kExponentBits);
  const int groups = static_cast<int>(f.sizes.size());
  for (int g = 1; g < groups; ++g) {
    const int step = h.falls[g] - h.falls[g - 1];
    out.put((1u << step) - 1, step + (step < f.largest_fall));
  }
  int left = f.budget - h.header_bits;
  const float first = power(128 - h.exponent);
  for (int g = 0; g < groups; c += f.sizes[g++]) {
    const int bits = h.bits[g];
    if (!bits) continue;
    const float second = power(bits - 3 + h.falls[g]);
    for (int j = 0; j < f.sizes[g]; ++j) {
      const float scaled = c[j] * first * second;
      const auto cut = static_cast<int32_t>(scaled);
      const int32_t code = cut - (static_cast<float>(cut) > scaled) + (1 << (bits - 1));
      out.put(static_cast<uint32_t>(code), bits);
    }
    left -= bits * f.sizes[g];
  }
  out.zeros(left);
}

// The coefficients, in the order of groups; false where the block is not finite.
[[maybe_unused]] inline bool read_block(const FixedRate& f, const BitReader& in, size_t place, float* c) {
  const int groups = static_cast<int>(f.sizes.size());
  BlockHeader h;
  h.exponent = static_cast<int>(in.get(place, kExponentBits));
  std::fill(c, c + kMostElements, 0.0f);
  if (is_silent(h.exponent)) return h.exponent == 0;
  int at = kExponentBits;
  h.falls[0] = 0;
  for (int g = 1; g < groups; ++g) {
    const uint32_t ahead = in.get(place + static_cast<size_t>(at), f.largest_fall);
    const int step = std::min(std::countr_one(ahead), f.largest_fall);
    at += step + (step < f.largest_fall);
    h.falls[g] = h.falls[g - 1] + step;
  }
  allot(f, h);
  size_t bit = place + static_cast<size_t>(h.header_bits);
  const float last = power(h.exponent - 127);
  for (int g = 0; g < groups; c += f.sizes[g++]) {
    const int bits = h.bits[g];
    if (!bits) continue;
    const float first = power(2 - bits - h.falls[g]);
    for (int j = 0; j < f.sizes[g]; ++j, bit += static_cast<size_t>(bits)) {
      const auto code = static_cast<int32_t>(in.get(bit, bits));
      c[j] = (static_cast<float>(code - (1 << (bits - 1))) + 0.5f) * first * last;
    }
  }
  return true;
}

// The places of a block's elements in the tensor; in what was filled up, those of the edge.
struct BlockPlaces {
  size_t at[kMostElements];
  bool real[kMostElements];

  BlockPlaces(const FixedRate& f, const std::array<size_t, 3>& counts, size_t block) {
    size_t corner[3];
    for (int d = 2; d >= 0; --d) {
      corner[d] = block % counts[d] * (d >= 3 - f.dims ? 4 : 1);
      block /= counts[d];
    }
    const int side[3] = {f.dims > 2 ? 4 : 1, f.dims > 1 ? 4 : 1, 4};
    size_t* place = at;
    bool* is_real = real;
    for (int i = 0; i < side[0]; ++i)
      for (int j = 0; j < side[1]; ++j)
        for (int k = 0; k < 4; ++k) {
          const size_t p[3] = {corner[0] + static_cast<size_t>(i), corner[1] + static_cast<size_t>(j),
                               corner[2] + static_cast<size_t>(k)};
          size_t line = block;
          *is_real = true;
          for (int d = 0; d < 3; ++d) {
            line = line * f.size[d] + std::min(p[d], f.size[d] - 1);
            *is_real = *is_real && p[d] < f.size[d];
          }
          *place++ = line;
          ++is_real;
        }
  }
};

// Calls work(zero of the type, std::integral_constant<int, dims>).
template <typename Work>
void with_dims(const FixedRate& f, Float kind, const Work& work) {
  with_float(kind, [&](auto zero) {
    if (f.dims == 1) work(zero, std::integral_constant<int, 1>{});
    if (f.dims == 2) work(zero, std::integral_constant<int, 2>{});
    if (f.dims == 3) work(zero, std::integral_constant<int, 3>{});
  });
}

[[maybe_unused]] void fixed_encode_loop(const FixedRate& f, Float kind, const void* x, size_t first,
                                        size_t last, uint8_t* payload) {
  BitWriter out(payload + first * static_cast<size_t>(f.budget) / 8);
  const auto counts = f.counts();
  with_dims(f, kind, [&](auto zero, auto dims) {
    using T = decltype(zero);
    constexpr int all = 1 << (2 * dims);
    for (size_t block = first; block < last; ++block) {
      const BlockPlaces places(f, counts, block);
      float c[all], sorted[all];
      for (int i = 0; i < all; ++i) c[i] = widen(static_cast<const T*>(x)[places.at[i]]);
      transform<dims, true>(f.weights, c);
      for (int i = 0; i < all; ++i) sorted[i] = c[f.order[i]];
      write_block(f, sorted, out);
    }
  });
  out.finish();
}

[[maybe_unused]] void fixed_decode_loop(const FixedRate& f, Float kind, const uint8_t* payload, size_t first,
                                        size_t last, void* x) {
  const BitReader in(payload, f.bytes());
  const auto counts = f.counts();
  with_dims(f, kind, [&](auto zero, auto dims) {
    using T = decltype(zero);
    constexpr int all = 1 << (2 * dims);
    for (size_t block = first; block < last; ++block) {
      float c[all], sorted[kMostElements];
      const bool finite = read_block(f, in, block * static_cast<size_t>(f.budget), sorted);
      for (int i = 0; i < all; ++i) c[f.order[i]] = sorted[i];
      transform<dims, false>(f.weights, c);
      if (!finite) std::fill(c, c + all, std::numeric_limits<float>::quiet_NaN());
      const BlockPlaces places(f, counts, block);
      for (int i = 0; i < all; ++i) {
        if constexpr (std::is_same_v<T, F16>)  // what rounds up past the largest number would be inf
          c[i] = c[i] > 65504.0f ? 65504.0f : c[i] < -65504.0f ? -65504.0f : c[i];
        if (places.real[i]) static_cast<T*>(x)[places.at[i]] = stored<T>(c[i]);
      }
    }
  });
}

}  // namespace

}  // namespace fewbits
