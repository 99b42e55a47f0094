// Blocks in which nearly all values are the same: that value, and where which others are.
//
// rANS would need finer counts than vectors take for such data, and has too few words to keep many lanes
// busy; here nearly all of decoding is filling memory. Gaps between the others are Rice codes (R. F. Rice,
// JPL 79-22, 1979): the part above 2^k in unary, k bits below it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bits.hpp"

namespace fewbits {

// One other value to so many, at most: with more of them rANS is smaller and fast enough.
inline constexpr size_t kSparseShare = 512;

// The commonest value, judged by a sample; only of use where nearly all values are it.
template <typename Value>
Value common_value(const Value* values, size_t n) {
  Value common = values[0];
  const size_t step = n / 64 + 1;
  for (size_t i = 0, votes = 0; i < n; i += step) {  // the vote of Boyer and Moore for a majority
    if (votes == 0) common = values[i];
    votes += values[i] == common ? size_t{1} : SIZE_MAX;
  }
  return common;
}

// Appends a sparse payload; false (and nothing appended) where too many values differ from the commonest.
template <typename Value>
bool sparse_encode(const Value* values, size_t n, std::vector<uint8_t>& out) {
  const Value common = common_value(values, n);
  std::vector<uint32_t> gaps;
  std::vector<uint8_t> others;
  for (size_t i = 0, last = 0; i < n; ++i) {
    if (values[i] == common) continue;
    if ((gaps.size() + 1) * kSparseShare > n) return false;
    gaps.push_back(static_cast<uint32_t>(i - last));
    append(others, &values[i], sizeof(Value));
    last = i + 1;
  }
  // The best k for gaps of a geometric distribution is near the logarithm of their mean.
  const auto k = static_cast<uint8_t>(std::bit_width(n / (gaps.size() + 1)) - 1);
  append(out, &common, sizeof(Value));
  append_u32(out, static_cast<uint32_t>(gaps.size()));
  out.push_back(k);
  append(out, others.data(), others.size());
  BitWriterLsb writer(out);
  for (const uint32_t gap : gaps) {
    for (uint32_t q = gap >> k; q > 0; --q) writer.put(1, 1);
    writer.put(0, 1);
    writer.put(gap & ((1u << k) - 1), k);
  }
  writer.flush();
  return true;
}

// Reads a sparse payload some values at a time. Safe on any bytes.
template <typename Value>
class SparseReader {
 public:
  bool open(const uint8_t* data, size_t size, size_t n) {
    constexpr size_t fixed = sizeof(Value) + 5;
    if (size < fixed) return false;
    std::memcpy(&common_, data, sizeof(Value));
    left_ = read_u32(data + sizeof(Value));
    k_ = data[fixed - 1];
    if (k_ > 20 || left_ > (size - fixed) / sizeof(Value)) return false;
    others_ = data + fixed;
    gaps_ = BitReaderLsb(others_ + left_ * sizeof(Value), size - fixed - left_ * sizeof(Value));
    n_ = n;
    return find_next(0);
  }

  bool read(Value* values, size_t count) {
    std::fill_n(values, count, common_);
    for (const size_t end = done_ + count; next_ < end;) {
      std::memcpy(values + (next_ - done_), others_, sizeof(Value));
      others_ += sizeof(Value);
      if (!find_next(next_ + 1)) return false;
    }
    done_ += count;
    return true;
  }

  // Whether exactly the whole payload was read.
  bool finished() const { return next_ == n_ && gaps_.finished(); }

 private:
  // Where the next other value is, or n_ where none is left. False if it lies past the end.
  bool find_next(size_t from) {
    next_ = n_;
    if (left_ == 0) return true;
    --left_;
    while (gaps_.get(1)) {
      from += size_t{1} << k_;
      if (from >= n_) return false;
    }
    next_ = from + gaps_.get(k_);
    return next_ < n_;
  }

  Value common_ = 0;
  size_t left_ = 0, next_ = 0, n_ = 0, done_ = 0;
  int k_ = 0;
  const uint8_t* others_ = nullptr;
  BitReaderLsb gaps_{nullptr, 0};
};

}  // namespace fewbits
