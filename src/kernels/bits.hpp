// Little-endian fields and LSB-first bit streams over byte vectors. Readers never pass their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace fewbits {

inline void append(std::vector<uint8_t>& out, const void* data, size_t size) {
  const auto* const bytes = static_cast<const uint8_t*>(data);
  out.insert(out.end(), bytes, bytes + size);  // not resize, which would zero what is then overwritten
}

inline void append_u32(std::vector<uint8_t>& out, uint32_t value) { append(out, &value, 4); }

inline uint32_t read_u32(const uint8_t* data) {
  uint32_t value;
  std::memcpy(&value, data, 4);
  return value;
}

class BitWriterLsb {
 public:
  explicit BitWriterLsb(std::vector<uint8_t>& out) : out_(out) {}

  void put(uint32_t value, int bits) {
    held_ |= uint64_t{value} << count_;
    for (count_ += bits; count_ >= 8; count_ -= 8, held_ >>= 8)
      out_.push_back(static_cast<uint8_t>(held_));
  }

  void flush() {
    if (count_) out_.push_back(static_cast<uint8_t>(held_));
    held_ = 0;
    count_ = 0;
  }

 private:
  std::vector<uint8_t>& out_;
  uint64_t held_ = 0;
  int count_ = 0;
};

// Past the end it delivers zeros and `finished` turns false.
class BitReaderLsb {
 public:
  BitReaderLsb(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint32_t get(int bits) {
    while (count_ < bits) {
      held_ |= uint64_t{next_ < size_ ? data_[next_] : uint8_t{0}} << count_;
      ++next_;
      count_ += 8;
    }
    const auto value = static_cast<uint32_t>(held_ & ((uint64_t{1} << bits) - 1));
    held_ >>= bits;
    count_ -= bits;
    return value;
  }

  // Moves on from the start of the stream.
  void skip(size_t bits) {
    next_ = bits / 8;
    held_ = 0;
    count_ = 0;
    if (bits % 8) get(static_cast<int>(bits % 8));
  }

  // Whether exactly the whole stream was read, but for zero bits that fill its last byte.
  bool finished() const { return next_ == size_ && count_ < 8 && held_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t next_ = 0;
  uint64_t held_ = 0;
  int count_ = 0;
};

}  // namespace fewbits
