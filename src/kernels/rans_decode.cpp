// Decoding with rANS: the plain form of the loop, and the reader around it.
#include <cstring>

#include "bits.hpp"
#include "dispatch.hpp"
#include "rans.hpp"

namespace fewbits {

namespace {

// The plain form of the loop. Everything in the vector files must equal this.
template <typename Value>
size_t rounds_portable(const RansTable& table, uint32_t* states, size_t lanes,
                       const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                       Value* out, size_t n) {
  const RansSlot* const slots = table.slots.data();
  const uint32_t mask = (1u << table.count_bits) - 1;
  const int shift = table.count_bits, verbatim_bits = table.verbatim_bits;
  const uint32_t verbatim_mask = (1u << verbatim_bits) - 1;
  const uint8_t* next = words;
  size_t done = 0;
  while (n - done >= lanes && static_cast<size_t>(words_end - next) >= 2 * lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      uint32_t x = states[lane];
      const RansSlot slot = slots[x & mask];
      x = slot.count * (x >> shift) + slot.position;
      uint32_t value = x & ((1u << slot.state_bits) - 1);
      x >>= slot.state_bits;
      if constexpr (sizeof(Value) == 2)
        if (verbatim) {
          const size_t bit = (done + lane) * static_cast<size_t>(verbatim_bits);
          uint16_t pair;
          std::memcpy(&pair, verbatim + bit / 8, 2);
          value = value << verbatim_bits | (uint32_t{pair} >> bit % 8 & verbatim_mask);
        }
      out[done + lane] = static_cast<Value>(slot.start + value);
      uint16_t word;
      std::memcpy(&word, next, 2);
      // Arithmetic in place of a branch: whether a lane needs a word is as random as the data.
      const uint32_t low = x < kRansLow;
      states[lane] = x << (16 * low) | (word & (0u - low));
      next += 2 * low;
    }
    done += lanes;
  }
  words = next;
  return done;
}

template <typename Value>
RansRounds<Value> choose_rounds(const RansTable& table, size_t lanes) {
#if defined(__x86_64__)
  if (table.vectorizable && simd() == Simd::avx512 && lanes >= 16) return rans_rounds_avx512<Value>;
  if (table.vectorizable && simd() == Simd::avx2 && lanes >= 8) return rans_rounds_avx2<Value>;
#endif
  return rounds_portable<Value>;
}

}  // namespace

template <typename Value>
bool RansReader<Value>::open(const uint8_t* data, size_t size, size_t n) {
  end_ = data + size;
  if (size < 1 || *data > std::countr_zero(kMaxLanes)) return false;
  lanes_ = size_t{1} << *data++;
  size_t spill_size = 0;
  if (table_.spills) {
    if (end_ - data < 4) return false;
    spill_size = read_u32(data);
    data += 4;
  }
  verbatim_size_ = (n * static_cast<size_t>(table_.verbatim_bits) + 7) / 8;
  if (static_cast<size_t>(end_ - data) < 4 * lanes_ + verbatim_size_ + spill_size) return false;
  std::memcpy(states_, data, 4 * lanes_);
  verbatim_ = data + 4 * lanes_;
  spill_ = BitReaderLsb(verbatim_ + verbatim_size_, spill_size);
  words_ = verbatim_ + verbatim_size_ + spill_size;
  n_ = n;
  rounds_ = table_.spills ? nullptr : choose_rounds<Value>(table_, lanes_);
  return (end_ - words_) % 2 == 0;
}

template <typename Value>
bool RansReader<Value>::read(Value* out, size_t count) {
  const auto bits = static_cast<size_t>(table_.verbatim_bits);
  size_t done = 0;
  if (rounds_)
    done = rounds_(table_, states_, lanes_, words_, end_,
                   bits ? verbatim_ + done_ * bits / 8 : nullptr, out, count);
  const uint32_t mask = (1u << table_.count_bits) - 1;
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip((done_ + done) * bits);
  for (; done < count; ++done) {  // what is left, every step checked
    uint32_t& state = states_[done & (lanes_ - 1)];
    const RansSlot slot = table_.slots[state & mask];
    uint32_t x = slot.count * (state >> table_.count_bits) + slot.position;
    uint32_t offset = x & ((1u << slot.state_bits) - 1);
    x >>= slot.state_bits;
    if (bits) offset = offset << bits | verbatim.get(table_.verbatim_bits);
    if (slot.spill_bits) offset = offset << slot.spill_bits | spill_.get(slot.spill_bits);
    out[done] = static_cast<Value>(slot.start + offset);
    if (x < kRansLow) {
      if (words_ == end_) return false;
      uint16_t word;
      std::memcpy(&word, words_, 2);
      x = x << 16 | word;
      words_ += 2;
    }
    state = x;
  }
  done_ += count;
  return true;
}

template <typename Value>
bool RansReader<Value>::finished() const {
  const bool all_home =
      std::all_of(states_, states_ + lanes_, [](uint32_t x) { return x == kRansLow; });
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip(n_ * static_cast<size_t>(table_.verbatim_bits));
  return done_ == n_ && all_home && words_ == end_ && spill_.finished() && verbatim.finished();
}

template class RansReader<uint8_t>;
template class RansReader<uint16_t>;

}  // namespace fewbits
