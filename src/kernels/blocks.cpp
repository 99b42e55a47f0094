#include "blocks.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "arithmetic.hpp"
#include "bits.hpp"
#include "dispatch.hpp"
#include "xxh3.hpp"

namespace fewbits {

namespace {

// Runs work(0) .. work(n - 1) on up to `threads` threads; the first exception is thrown again here.
template <typename Work>
void parallel_for(size_t n, int threads, const Work& work) {
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto drain = [&] {
    try {
      for (size_t i; (i = next.fetch_add(1)) < n;) work(i);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
      next.store(n);
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (size_t t = 1; t < std::min<size_t>(n, static_cast<size_t>(std::max(threads, 1))); ++t)
      helpers.emplace_back(drain);
  } catch (const std::system_error&) {
    // The system gives no more threads; those that there are do the work.
  }
  drain();
  for (auto& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

// Calls f with an element type of the plan's width.
template <typename F>
auto with_element(int element_bytes, F&& f) {
  switch (element_bytes) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

// What is decoded before it is joined, remapped and hashed: a third of a first-level cache.
constexpr size_t kChunkBytes = size_t{1} << 14;

template <typename T>
PlaneLoops<T> plane_loops() {
#if defined(__x86_64__)
  if (simd() == Simd::avx512) return plane_loops_avx512<T>();
  if (simd() == Simd::avx2) return plane_loops_avx2<T>();
#endif
  return kPlaneLoops<T>;
}

// Memory that a thread keeps from one block to the next, one piece for each use.
enum class Use { elements, values, best, tried, payload };
template <typename T, Use kUse>
std::vector<T>& scratch(size_t n) {
  thread_local std::vector<T> memory;
  memory.resize(n);
  return memory;
}

// Copies one block out of `data` (of any alignment) and remaps it.
template <typename T>
const std::vector<T>& load_block(const Plan& plan, const uint8_t* data, size_t n) {
  std::vector<T>& elements = scratch<T, Use::elements>(n);
  std::memcpy(elements.data(), data, n * sizeof(T));
  remap_forward(plan.remap, elements.data(), n);
  return elements;
}

// The values of one plane of a block: the elements themselves where the plane is all of them.
template <typename Value, typename T>
const std::vector<Value>& cut(const Plane& plane, const std::vector<T>& elements) {
  if constexpr (std::is_same_v<T, Value>)
    if (plane.bytes) return elements;
  std::vector<Value>& values = scratch<Value, Use::values>(elements.size() * (plane.bytes ? 1 : 2));
  if constexpr (sizeof(T) == 1 && sizeof(Value) == 1)
    if (plane.bytes == 0) {
      cut_nibbles(elements.data(), elements.size(), values.data());
      return values;
    }
  cut_plane(elements.data(), elements.size(), plane.offset, values.data());
  return values;
}

// Appends the plane of a block the cheapest way; returns its mode. `raw_bytes` is what it takes as is.
template <typename Value>
uint8_t write_plane(const Plane& plane, const std::vector<Value>& values, std::vector<uint8_t>& out) {
  const bool nibbles = plane.bytes == 0;
  const size_t raw_bytes = nibbles ? values.size() / 2 : values.size() * sizeof(Value);
  if (std::all_of(values.begin(), values.end(), [&](Value v) { return v == values[0]; })) {
    append(out, values.data(), sizeof(Value));
    return kConstant;
  }
  std::vector<uint8_t>&best = scratch<uint8_t, Use::best>(0), &tried = scratch<uint8_t, Use::tried>(0);
  uint8_t mode = kRaw;
  for (size_t t = 0; t < plane.tables.size(); ++t) {
    tried.clear();
    const bool fits =
        plane.coder == Coder::rans
            ? rans_encode(*plane.rans[t], values.data(), values.size(), tried)
            : arithmetic_encode(values.data(), values.size(), *plane.tables[t], tried);
    if (!fits || tried.size() >= (mode == kRaw ? raw_bytes : best.size())) continue;
    best.swap(tried);
    mode = static_cast<uint8_t>(kFirstTable + t);
  }
  if (mode != kRaw) {
    append(out, best.data(), best.size());
  } else if (nibbles) {
    const size_t before = out.size();
    out.resize(before + raw_bytes);
    join_nibbles(reinterpret_cast<const uint8_t*>(values.data()), raw_bytes, out.data() + before);
  } else {
    append(out, values.data(), raw_bytes);
  }
  return mode;
}

// The values of one plane of one block, some at a time.
template <typename Value>
class PlaneReader {
 public:
  PlaneReader(const Plane& plane, uint8_t mode) : nibbles_(plane.bytes == 0), mode_(mode) {
    const size_t t = static_cast<size_t>(mode - kFirstTable);
    if (mode < kFirstTable || t >= plane.tables.size()) return;
    if (plane.coder == Coder::rans) rans_.emplace(*plane.rans[t]);
    else table_ = plane.tables[t].get();
  }

  // False if `size` bytes cannot hold n values of this mode.
  bool open(const uint8_t* data, size_t size, size_t n) {
    data_ = data;
    if (mode_ == kConstant) {
      if (size != sizeof(Value)) return false;
      std::memcpy(&constant_, data, sizeof(Value));
      return !nibbles_ || constant_ < 16;
    }
    if (mode_ == kRaw) return size == (nibbles_ ? n / 2 : n * sizeof(Value));
    if (rans_) return rans_->open(data, size, n);
    if (!table_) return false;
    decoded_.resize(n);  // the arithmetic coder knows only at the end whether it was right
    data_ = reinterpret_cast<const uint8_t*>(decoded_.data());
    return arithmetic_decode(data, size, *table_, decoded_.data(), n);
  }

  // The next values; calls but the last ask for a multiple of kMaxLanes.
  bool read(Value* values, size_t count) {
    if (rans_) return rans_->read(values, count);
    if (mode_ == kConstant) {
      std::fill_n(values, count, constant_);
    } else if (mode_ == kRaw && nibbles_) {
      if constexpr (sizeof(Value) == 1) cut_nibbles(data_, count / 2, values);
      data_ += count / 2;
    } else {
      std::memcpy(values, data_, count * sizeof(Value));
      data_ += count * sizeof(Value);
    }
    return true;
  }

  bool finished() const { return !rans_ || rans_->finished(); }

 private:
  bool nibbles_;
  uint8_t mode_;
  const uint8_t* data_ = nullptr;
  Value constant_ = 0;
  std::optional<RansReader<Value>> rans_;
  const RangeTable* table_ = nullptr;
  std::vector<Value> decoded_;
};

// A plane on its way into elements of type T.
template <typename T>
class PlaneJoiner {
 public:
  PlaneJoiner(const Plane& plane, uint8_t mode)
      : plane_(plane), bytes_(plane, mode), pairs_(plane, mode) {}

  bool open(const uint8_t* data, size_t size, size_t n) {
    if (plane_.bytes == 2) return pairs_.open(data, size, n);
    return bytes_.open(data, size, plane_.bytes == 0 ? 2 * n : n);
  }

  // Puts the next `count` values where they belong; the elements start as zero.
  bool join(T* elements, size_t count) {
    alignas(64) uint8_t scratch[2 * kChunkBytes];
    if constexpr (sizeof(T) == 1) {
      if (plane_.bytes == 1) return bytes_.read(elements, count);
      if (!bytes_.read(scratch, 2 * count)) return false;
      join_nibbles(scratch, count, elements);
      return true;
    } else if (plane_.bytes == 1) {
      if (!bytes_.read(scratch, count)) return false;
      plane_loops<T>().join_bytes(scratch, count, plane_.offset, elements);
    } else if constexpr (sizeof(T) == 2) {
      return pairs_.read(elements, count);
    } else {
      auto* const values = reinterpret_cast<uint16_t*>(scratch);
      if (!pairs_.read(values, count)) return false;
      plane_loops<T>().join_pairs(values, count, plane_.offset, elements);
    }
    return true;
  }

  bool finished() const { return plane_.bytes == 2 ? pairs_.finished() : bytes_.finished(); }

 private:
  const Plane& plane_;
  PlaneReader<uint8_t> bytes_;
  PlaneReader<uint16_t> pairs_;
};

// Decodes a block chunk by chunk: planes joined, remap undone and checksum taken while the chunk is in the
// first-level cache.
template <typename T>
bool read_block(const Plan& plan, const uint8_t* data, const uint8_t* modes,
                const uint32_t* lengths, T* elements, size_t n, const uint64_t* checksum) {
  std::deque<PlaneJoiner<T>> planes;
  for (size_t p = 0; p < plan.planes.size(); data += lengths[p], ++p)
    if (!planes.emplace_back(plan.planes[p], modes[p]).open(data, lengths[p], n)) return false;
  const PlaneLoops<T> loops = plane_loops<T>();
  Xxh3 hash(reinterpret_cast<const uint8_t*>(elements), n * sizeof(T));
  constexpr size_t chunk = kChunkBytes / sizeof(T);
  for (size_t at = 0; at < n; at += chunk) {
    const size_t count = std::min(chunk, n - at);
    if (plan.planes.size() > 1) std::fill_n(elements + at, count, T{0});
    for (auto& plane : planes)
      if (!plane.join(elements + at, count)) return false;
    loops.remap_inverse(plan.remap, elements + at, count);
    if (checksum) hash.eat((at + count) * sizeof(T));
  }
  return std::all_of(planes.begin(), planes.end(), [](auto& p) { return p.finished(); }) &&
         (!checksum || hash.finish() == *checksum);
}

}  // namespace

Packed pack_blocks(const Plan& plan, const uint8_t* data, size_t bytes, int threads) {
  const size_t blocks = plan.blocks(bytes), planes = plan.planes.size();
  const auto element = static_cast<size_t>(plan.element_bytes);
  Packed packed;
  packed.modes.resize(blocks * planes);
  packed.lengths.resize(blocks * planes);
  packed.checksums.resize(blocks);
  // No plane takes more than its raw bytes, so each block has a place of its own; they close up afterwards.
  packed.payload = allocate_bytes(bytes);
  parallel_for(blocks, threads, [&](size_t b) {
    const uint8_t* const from = data + b * plan.block_elements * element;
    const size_t n = std::min(plan.block_elements, bytes / element - b * plan.block_elements);
    packed.checksums[b] = xxh3(from, n * element);
    std::vector<uint8_t>& out = scratch<uint8_t, Use::payload>(0);
    with_element(plan.element_bytes, [&](auto zero) {
      const auto& elements = load_block<decltype(zero)>(plan, from, n);
      for (size_t p = 0; p < planes; ++p) {
        const Plane& plane = plan.planes[p];
        const size_t before = out.size(), at = b * planes + p;
        packed.modes[at] = plane.bytes == 2
                               ? write_plane(plane, cut<uint16_t>(plane, elements), out)
                               : write_plane(plane, cut<uint8_t>(plane, elements), out);
        packed.lengths[at] = static_cast<uint32_t>(out.size() - before);
      }
    });
    std::memcpy(packed.payload.get() + b * plan.block_elements * element, out.data(), out.size());
  });
  for (size_t b = 0; b < blocks; ++b) {
    size_t size = 0;
    for (size_t p = 0; p < planes; ++p) size += packed.lengths[b * planes + p];
    std::memmove(packed.payload.get() + packed.payload_bytes,
                 packed.payload.get() + b * plan.block_elements * element, size);
    packed.payload_bytes += size;
  }
  return packed;
}

int64_t unpack_blocks(const Plan& plan, const uint8_t* payload, size_t payload_bytes,
                      const uint8_t* modes, const uint32_t* lengths, const uint64_t* checksums,
                      size_t blocks, uint8_t* out, size_t out_bytes, bool verify, int threads) {
  const size_t planes = plan.planes.size();
  const auto element = static_cast<size_t>(plan.element_bytes);
  const auto misfit = static_cast<int64_t>(blocks);
  if (out_bytes % element || plan.blocks(out_bytes) != blocks) return misfit;
  std::vector<size_t> starts(blocks + 1, 0);
  for (size_t b = 0; b < blocks; ++b) {
    starts[b + 1] = starts[b];
    for (size_t p = 0; p < planes; ++p) starts[b + 1] += lengths[b * planes + p];
  }
  if (starts[blocks] != payload_bytes) return misfit;

  std::atomic<int64_t> damaged{misfit + 1};
  parallel_for(blocks, threads, [&](size_t b) {
    uint8_t* const to = out + b * plan.block_elements * element;
    const size_t n = std::min(plan.block_elements, out_bytes / element - b * plan.block_elements);
    const bool well = with_element(plan.element_bytes, [&](auto zero) {
      using T = decltype(zero);
      return read_block(plan, payload + starts[b], modes + b * planes, lengths + b * planes,
                        reinterpret_cast<T*>(to), n, verify ? checksums + b : nullptr);
    });
    if (well) return;
    int64_t known = damaged.load();
    while (static_cast<int64_t>(b) < known &&
           !damaged.compare_exchange_weak(known, static_cast<int64_t>(b))) {
    }
  });
  return damaged.load() > misfit ? kAllWell : damaged.load();
}

std::vector<uint64_t> plane_histogram(const Plan& plan, size_t index, const uint8_t* data,
                                      size_t bytes) {
  const Plane& plane = plan.planes.at(index);
  const auto element = static_cast<size_t>(plan.element_bytes);
  const int width = plane.bytes == 0 ? 4 : 8 * plane.bytes;
  std::vector<uint64_t> counts(size_t{1} << width, 0);
  // Two tallies in turn, so that a run of equal values does not wait on its own last increment.
  std::vector<uint32_t> even(counts.size()), odd(counts.size());
  const auto tally = [&](const auto& values) {
    size_t i = 0;
    for (; i + 1 < values.size(); i += 2) {
      ++even[values[i]];
      ++odd[values[i + 1]];
    }
    if (i < values.size()) ++even[values[i]];
  };
  constexpr size_t step = size_t{1} << 16;
  for (size_t at = 0, n = bytes / element; at < n; at += step) {
    with_element(plan.element_bytes, [&](auto zero) {
      const auto& elements =
          load_block<decltype(zero)>(plan, data + at * element, std::min(step, n - at));
      plane.bytes == 2 ? tally(cut<uint16_t>(plane, elements))
                       : tally(cut<uint8_t>(plane, elements));
    });
    if (at % (step << 14) == 0 || at + step >= n)  // long before a 32-bit tally can overflow
      for (size_t v = 0; v < counts.size(); ++v) {
        counts[v] += uint64_t{even[v]} + odd[v];
        even[v] = odd[v] = 0;
      }
  }
  return counts;
}

}  // namespace fewbits
