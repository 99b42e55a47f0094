// XXH64, the checksum of frames: 64 bits, no tables, above memory speed on any processor.
//
// Written from its public specification (Y. Collet, "xxHash fast digest algorithm", version 0.1.1,
// section XXH64). Four accumulators eat 32-byte stripes; the tail goes in by 8, 4 and 1 bytes; a
// final avalanche mixes. Input is read as little-endian words.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fewbits {

inline uint64_t xxh64(const uint8_t* data, size_t size, uint64_t seed = 0) {
  constexpr uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9,
                     p4 = 0x85EBCA77C2B2AE63, p5 = 0x27D4EB2F165667C5;
  const auto read64 = [](const uint8_t* p) { uint64_t v; std::memcpy(&v, p, 8); return v; };
  const auto read32 = [](const uint8_t* p) { uint32_t v; std::memcpy(&v, p, 4); return v; };
  const auto round = [&](uint64_t acc, uint64_t lane) {
    return std::rotl(acc + lane * p2, 31) * p1;
  };

  const uint8_t* const end = data + size;
  uint64_t hash = seed + p5;
  if (size >= 32) {
    uint64_t a = seed + p1 + p2, b = seed + p2, c = seed, d = seed - p1;
    for (; end - data >= 32; data += 32) {
      a = round(a, read64(data));
      b = round(b, read64(data + 8));
      c = round(c, read64(data + 16));
      d = round(d, read64(data + 24));
    }
    hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    for (uint64_t acc : {a, b, c, d}) hash = (hash ^ round(0, acc)) * p1 + p4;
  }
  hash += size;
  for (; end - data >= 8; data += 8) hash = std::rotl(hash ^ round(0, read64(data)), 27) * p1 + p4;
  if (end - data >= 4) {
    hash = std::rotl(hash ^ (read32(data) * p1), 23) * p2 + p3;
    data += 4;
  }
  for (; data != end; ++data) hash = std::rotl(hash ^ (*data * p5), 11) * p1;
  hash = (hash ^ (hash >> 33)) * p2;
  hash = (hash ^ (hash >> 29)) * p3;
  return hash ^ (hash >> 32);
}

}  // namespace fewbits
