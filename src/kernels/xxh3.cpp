#include "xxh3.hpp"

namespace fewbits {

namespace {

uint64_t read64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, 8);
  return v;
}

uint64_t read32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

const uint8_t* secret(size_t at) { return kSecret.data() + at; }

uint64_t folded_product(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t avalanche(uint64_t x) {
  x = (x ^ x >> 37) * kPrimeMx1;
  return x ^ x >> 32;
}

uint64_t avalanche_xxh64(uint64_t x) {
  x = (x ^ x >> 33) * kPrime64_2;
  x = (x ^ x >> 29) * kPrime64_3;
  return x ^ x >> 32;
}

uint64_t up_to_16(const uint8_t* data, size_t size) {
  if (size > 8) {
    const uint64_t low = read64(secret(24)) ^ read64(secret(32)) ^ read64(data);
    const uint64_t high = read64(secret(40)) ^ read64(secret(48)) ^ read64(data + size - 8);
    return avalanche(size + __builtin_bswap64(low) + high + folded_product(low, high));
  }
  if (size >= 4) {
    const uint64_t combined = read32(data + size - 4) | read32(data) << 32;
    uint64_t x = read64(secret(8)) ^ read64(secret(16)) ^ combined;
    x = (x ^ std::rotl(x, 49) ^ std::rotl(x, 24)) * kPrimeMx2;
    x = (x ^ ((x >> 35) + size)) * kPrimeMx2;
    return x ^ x >> 28;
  }
  if (size == 0) return avalanche_xxh64(read64(secret(56)) ^ read64(secret(64)));
  const uint64_t combined = uint64_t{data[size - 1]} | size << 8 | uint64_t{data[0]} << 16 |
                            uint64_t{data[size >> 1]} << 24;
  return avalanche_xxh64(read32(secret(0)) ^ read32(secret(4)) ^ combined);
}

uint64_t mix(const uint8_t* data, size_t at) {
  return folded_product(read64(data) ^ read64(secret(at)), read64(data + 8) ^ read64(secret(at + 8)));
}

uint64_t up_to_240(const uint8_t* data, size_t size) {
  uint64_t acc = size * kPrime64_1;
  if (size <= 128) {
    for (size_t i = ((size - 1) >> 5) + 1; i-- > 0;)
      acc += mix(data + 16 * i, 32 * i) + mix(data + size - 16 * i - 16, 32 * i + 16);
    return avalanche(acc);
  }
  for (size_t i = 0; i < 8; ++i) acc += mix(data + 16 * i, 16 * i);
  acc = avalanche(acc);
  for (size_t i = 8; i < size >> 4; ++i) acc += mix(data + 16 * i, 16 * (i - 8) + 3);
  return avalanche(acc + mix(data + size - 16, 119));
}

void accumulate(uint64_t* acc, const uint8_t* stripe, size_t secret_at) {
  for (size_t i = 0; i < 8; ++i) {
    const uint64_t lane = read64(stripe + 8 * i);
    const uint64_t value = lane ^ read64(secret(secret_at + 8 * i));
    acc[i ^ 1] += lane;
    acc[i] += (value & 0xFFFFFFFF) * (value >> 32);
  }
}

// The plain form of the loop that the vector files replace.
void rounds_portable(uint64_t* acc, const uint8_t* data, size_t rounds) {
  for (; rounds > 0; --rounds, data += kRound) {
    for (size_t n = 0; n < kStripesInRound; ++n) accumulate(acc, data + kStripe * n, 8 * n);
    for (size_t i = 0; i < 8; ++i)
      acc[i] = (acc[i] ^ acc[i] >> 47 ^ read64(secret(128 + 8 * i))) * kPrime32_1;
  }
}

}  // namespace

void Xxh3::eat(size_t filled) {
  const auto [from, count, acc] = rounds_of(filled);
#if defined(__x86_64__)
  switch (simd()) {
    case Simd::avx512: xxh3_rounds_avx512(acc, from, count); break;
    case Simd::avx2: xxh3_rounds_avx2(acc, from, count); break;
    default: rounds_portable(acc, from, count);
  }
#else
  rounds_portable(acc, from, count);
#endif
  ate(count);
}

uint64_t Xxh3::finish() {
  if (size_ <= 16) return up_to_16(data_, size_);
  if (size_ <= 240) return up_to_240(data_, size_);
  eat(size_);
  const uint8_t* const last = at(kRound * rounds_);
  const size_t stripes = (size_ - 1 - kRound * rounds_) / kStripe;
  for (size_t n = 0; n < stripes; ++n) accumulate(acc_, last + kStripe * n, 8 * n);
  accumulate(acc_, at(size_ - kStripe), 121);
  uint64_t hash = size_ * kPrime64_1;
  for (size_t i = 0; i < 8; i += 2)
    hash += folded_product(acc_[i] ^ read64(secret(11 + 8 * i)),
                           acc_[i + 1] ^ read64(secret(19 + 8 * i)));
  return avalanche(hash);
}

}  // namespace fewbits
