// Decoding with rANS: the plain form of the loop, and the reader around it.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "bits.hpp"
#include "dispatch.hpp"
#include "planes.hpp"
#include "rans.hpp"

namespace fewbits {

namespace {

// The plain form of the loop. Everything in the vector files must equal this.
template <typename Value>
size_t rounds_portable(const RansTable& table, uint32_t* states, size_t lanes,
                       const uint8_t*& words, const uint8_t* words_end, const uint8_t* verbatim,
                       Remap remap, Value* out, size_t n, Xxh3Rounds*) {
  const RansSlot* const slots = table.slots().data();
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
  remap_inverse(remap, out, done);
  return done;
}

template <typename Value>
RansRounds<Value> choose_rounds(const RansTable& table, size_t lanes) {
#if defined(__x86_64__)
  if (table.vectorizable && lanes >= 16) {
    if (simd() == Simd::avx512) return rans_rounds_avx512<Value>;
    const bool in_bytes = table.count_bits >= 8 && table.count_bits <= 12;  // offsets, buckets
    if (simd() == Simd::avx2 && in_bytes) return rans_rounds_avx2<Value>;
  }
#endif
  if (!table.spills && !table.alone && lanes >= 8) return rans_rounds_tiles<Value>;
  return rounds_portable<Value>;
}

}  // namespace

template <typename Value>
bool RansReader<Value>::open(const uint8_t* data, size_t size) {
  end_ = data + size;
  n_ = runs_.back().end;
  const RansTable& table = *runs_.front().table;
  if (size < 1 || (*data & ~kLoaded) > std::countr_zero(kMaxLanes)) return false;
  lanes_ = size_t{1} << (*data & ~kLoaded);
  const size_t loaded = *data++ & kLoaded ? lanes_ * values_a_lane(table.source->width) : 0;
  if (loaded > n_) return false;
  coded_ = n_ - loaded;
  size_t spill_size = 0;
  if (std::any_of(runs_.begin(), runs_.end(), [](const RansRun& r) { return r.table->spills; })) {
    if (end_ - data < 4) return false;
    spill_size = read_u32(data);
    data += 4;
  }
  verbatim_size_ = (coded_ * static_cast<size_t>(table.verbatim_bits) + 7) / 8;
  if (static_cast<size_t>(end_ - data) < 4 * lanes_ + verbatim_size_ + spill_size) return false;
  std::memcpy(states_, data, 4 * lanes_);
  verbatim_ = data + 4 * lanes_;
  spill_ = BitReaderLsb(verbatim_ + verbatim_size_, spill_size);
  words_ = verbatim_ + verbatim_size_ + spill_size;
  return (end_ - words_) % 2 == 0;
}

template <typename Value>
bool RansReader<Value>::read(Value* out, size_t count, Xxh3* hash) {
  for (const size_t last = done_ + count; done_ < last;) {
    if (done_ >= coded_) {
      read_loaded(out, last - done_);
      remap_inverse(remap_, out, last - done_);
      done_ = last;
      break;
    }
    while (runs_[run_].end <= done_) ++run_;
    const RansTable& table = *runs_[run_].table;
    const size_t until = std::min({runs_[run_].end, coded_, last});
    size_t some = read_rounds(table, out, until - done_, hash);
    if (!some && until - done_ >= lanes_ && move_last_words()) continue;
    if (at_last_words_ && words_ > end_) return false;
    if (!some) {  // up to where whole rounds may go on, or near the end of the words
      const size_t round = std::max<size_t>(lanes_, 8), to_round = round - done_ % round;
      some = until - done_;
      if (to_round < some && to_round < round) some = to_round;
      if (!read_plain(table, out, some)) return false;
      remap_inverse(remap_, out, some);
    }
    out += some;
    done_ += some;
  }
  return true;
}

// As many of the next values as come in whole rounds; 0 where the vectors cannot start here.
template <typename Value>
size_t RansReader<Value>::read_rounds(const RansTable& table, Value* out, size_t count, Xxh3* hash) {
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  if (table.spills || done_ % lanes_ || done_ * bits % 8) return 0;  // verbatim bits from a whole byte on
  const uint8_t* const words_end = at_last_words_ ? std::end(last_words_) : end_;
  Xxh3Rounds rounds{nullptr, 0, nullptr};
  if (hash) rounds = hash->rounds_of(hash->position_of(reinterpret_cast<uint8_t*>(out + count)));
  const size_t could_eat = rounds.count;
  const size_t some = choose_rounds<Value>(table, lanes_)(
      table, states_, lanes_, words_, words_end, bits ? verbatim_ + done_ * bits / 8 : nullptr,
      remap_, out, count, &rounds);
  if (hash) hash->ate(could_eat - rounds.count);
  return some;
}

// Near the end of the words, puts those that are left where as many as a round may take can be read; false where that
// was done before or is not near. Not with verbatim bits, which are read past their end into the words.
template <typename Value>
bool RansReader<Value>::move_last_words() {
  const auto left = static_cast<size_t>(end_ - words_);
  if (at_last_words_ || left > sizeof last_words_ / 2 || verbatim_size_) return false;
  std::memcpy(last_words_, words_, left);
  std::memset(last_words_ + left, 0, sizeof last_words_ - left);
  words_ = last_words_;
  end_ = last_words_ + left;
  return at_last_words_ = true;
}

// The next values one by one, every step checked.
template <typename Value>
bool RansReader<Value>::read_plain(const RansTable& table, Value* out, size_t count) {
  const auto bits = static_cast<size_t>(table.verbatim_bits);
  const uint32_t mask = (1u << table.count_bits) - 1;
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip(done_ * bits);
  for (size_t i = 0; i < count; ++i) {
    uint32_t& state = states_[(done_ + i) & (lanes_ - 1)];
    const RansSlot slot = table.slot_of(state & mask);
    uint32_t x = slot.count * (state >> table.count_bits) + slot.position;
    uint32_t offset = x & ((1u << slot.state_bits) - 1);
    x >>= slot.state_bits;
    if (bits) offset = offset << bits | verbatim.get(table.verbatim_bits);
    if (slot.spill_bits) offset = offset << slot.spill_bits | spill_.get(slot.spill_bits);
    out[i] = static_cast<Value>(slot.start + offset);
    if (x < kRansLow) {
      if (words_ == end_) return false;
      uint16_t word;
      std::memcpy(&word, words_, 2);
      x = x << 16 | word;
      words_ += 2;
    }
    state = x;
  }
  return true;
}

// The next values, which lie in the lanes' last states.
template <typename Value>
void RansReader<Value>::read_loaded(Value* out, size_t count) {
  const int width = runs_.front().table->source->width;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = done_ + i - coded_;
    const uint32_t held = states_[at & (lanes_ - 1)] >> (static_cast<size_t>(width) * (at / lanes_));
    out[i] = static_cast<Value>(held & ((1u << width) - 1));
  }
}

template <typename Value>
bool RansReader<Value>::finished() const {
  const int below = coded_ < n_ ? 16 : 0;  // bits of a state that may be anything
  const bool all_home = std::all_of(states_, states_ + lanes_,
                                    [&](uint32_t x) { return x >> below == kRansLow >> below; });
  BitReaderLsb verbatim(verbatim_, verbatim_size_);
  verbatim.skip(coded_ * static_cast<size_t>(runs_.front().table->verbatim_bits));
  return done_ == n_ && all_home && words_ == end_ && spill_.finished() && verbatim.finished();
}

template class RansReader<uint8_t>;
template class RansReader<uint16_t>;

}  // namespace fewbits
