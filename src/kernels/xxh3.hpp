// XXH3 (64 bits, seed 0, default secret), the checksum of frames: faster than memory in vectors, and a
// library call away in any language.
//
// Written from its public specification (Y. Collet, "xxHash fast digest algorithm", XXH3 sections). Up to
// 240 bytes are mixed by 16; longer inputs go by stripes of 64 bytes into eight accumulators, which are
// scrambled after every sixteen stripes. That loop is all that the vector files replace. Input is read as
// little-endian words.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dispatch.hpp"

namespace fewbits {

inline constexpr uint64_t kPrime32_1 = 0x9E3779B1, kPrime32_2 = 0x85EBCA77, kPrime32_3 = 0xC2B2AE3D,
                          kPrime64_1 = 0x9E3779B185EBCA87, kPrime64_2 = 0xC2B2AE3D27D4EB4F,
                          kPrime64_3 = 0x165667B19E3779F9, kPrime64_4 = 0x85EBCA77C2B2AE63,
                          kPrime64_5 = 0x27D4EB2F165667C5, kPrimeMx1 = 0x165667919E3779F9,
                          kPrimeMx2 = 0x9FB21C651E98DF25;
inline constexpr size_t kStripe = 64, kStripesInRound = 16, kRound = kStripe * kStripesInRound;

alignas(64) inline constexpr std::array<uint8_t, 192> kSecret = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

// Rounds of a hash that lie ready from `next` on, or will as what is there fills up: for a loop that fills it and
// eats what it has filled while it is in the first-level cache.
struct Xxh3Rounds {
  const uint8_t* next;
  size_t count;  // at most
  uint64_t* acc;
};

// Eats whole rounds of 1024 bytes, in vectors.
void xxh3_rounds_avx2(uint64_t* acc, const uint8_t* data, size_t rounds);
void xxh3_rounds_avx512(uint64_t* acc, const uint8_t* data, size_t rounds);

// The hash of a buffer that fills up from the front: what is there already can be eaten while it is in
// cache.
class Xxh3 {
 public:
  Xxh3(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // The bytes from `position` on lie at `data` from now on. All bytes before it must have been eaten,
  // `position` must be a multiple of kRound, and the stripe before it must lie before `data`.
  void move(const uint8_t* data, size_t position) {
    data_ = data;
    moved_ = position;
  }

  // Eats what it can of the first `filled` bytes.
  void eat(size_t filled);

  // What can be eaten by another loop when the first `filled` bytes are there; it must say how many it ate.
  Xxh3Rounds rounds_of(size_t filled) { return {at(kRound * rounds_), ready(filled) - rounds_, acc_}; }
  void ate(size_t rounds) { rounds_ += rounds; }

  // The position of a byte that lies where it was moved to.
  size_t position_of(const uint8_t* byte) const {
    return moved_ + static_cast<size_t>(byte - data_);
  }

  // The hash; all bytes must be there.
  uint64_t finish();

 private:
  // The last round is not scrambled, even if it is whole, so it is left to the end.
  size_t ready(size_t filled) const {
    return size_ <= 240 ? 0 : std::min(filled, size_ - 1) / kRound;
  }

  const uint8_t* at(size_t position) const {
    return data_ + (static_cast<ptrdiff_t>(position) - static_cast<ptrdiff_t>(moved_));
  }

  const uint8_t* data_;
  size_t size_;
  size_t moved_ = 0;   // the position of data_
  size_t rounds_ = 0;  // eaten
  alignas(64) uint64_t acc_[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                  kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};
};

// The hash of `size` bytes.
inline uint64_t xxh3(const uint8_t* data, size_t size) { return Xxh3(data, size).finish(); }

}  // namespace fewbits
