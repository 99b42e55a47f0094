#include "blocks.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <stdexcept>

#include "arithmetic.hpp"
#include "bits.hpp"
#include "dispatch.hpp"
#include "elements.hpp"
#include "parallel.hpp"
#include "sparse.hpp"
#include "xxh3.hpp"

namespace fewbits {

namespace {

// What is decoded before it is joined, remapped and hashed: a third of a first-level cache.
constexpr size_t kChunkBytes = size_t{1} << 14;

// Copies one block out of `data` (of any alignment), in stored order.
template <typename T>
std::vector<T>& load_block(const Arrangement& arrangement, Arrangement::Block block,
                           const uint8_t* data) {
  std::vector<T>& elements = scratch<T, Use::elements>(block.count);
  arrangement.each_run(block.start, block.count, [&](size_t stored, size_t original, size_t count) {
    std::memcpy(elements.data() + (stored - block.start), data + original * sizeof(T),
                count * sizeof(T));
  });
  return elements;
}

// The tables that a block's values go by where each class has its own.
std::vector<RansRun> runs_by_class(const Plane& plane, const Arrangement& arrangement,
                                   Arrangement::Block block) {
  std::vector<RansRun> runs;
  const size_t values = plane.bytes ? 1 : 2, last = block.start + block.count;
  size_t reached = block.start;
  for (size_t c = 0; reached < last; ++c) {
    const size_t end = std::min(arrangement.class_ends()[c], last);
    if (end <= reached) continue;
    runs.push_back({plane.rans[c].get(), values * (end - block.start)});
    reached = end;
  }
  return runs;
}

bool can_go_by_class(const Plane& plane, const Arrangement& arrangement) {
  return arrangement.in_classes() && plane.coder == Coder::rans &&
         plane.tables.size() == arrangement.classes();
}

// Appends the plane of a block the cheapest way; returns its mode.
template <typename Value>
uint8_t write_plane(const Plane& plane, const Arrangement& arrangement, Arrangement::Block block,
                    const std::vector<Value>& values, std::vector<uint8_t>& out) {
  const bool nibbles = plane.bytes == 0;
  const size_t raw_bytes = nibbles ? values.size() / 2 : values.size() * sizeof(Value);
  if (std::all_of(values.begin(), values.end(), [&](Value v) { return v == values[0]; })) {
    append(out, values.data(), sizeof(Value));
    return kConstant;
  }
  if (sparse_encode(values.data(), values.size(), out)) return kSparse;
  const size_t before = out.size();
  size_t least = raw_bytes;
  uint8_t mode = kRaw;
  const auto attempt = [&](uint8_t as, const auto& encode) {
    const size_t start = out.size();
    if (!encode() || out.size() - start >= least) {
      out.resize(start);
      return;
    }
    least = out.size() - start;
    mode = as;
    out.erase(out.begin() + static_cast<ptrdiff_t>(before),
              out.begin() + static_cast<ptrdiff_t>(start));  // what was the best so far
  };
  if (can_go_by_class(plane, arrangement)) {
    attempt(kByClass, [&] {
      return rans_encode(runs_by_class(plane, arrangement, block), values.data(), out);
    });
  } else {
    for (size_t t = 0; t < plane.tables.size(); ++t)
      attempt(static_cast<uint8_t>(kFirstTable + t), [&] {
        return plane.coder == Coder::rans
                   ? rans_encode({{plane.rans[t].get(), values.size()}}, values.data(), out)
                   : arithmetic_encode(values.data(), values.size(), *plane.tables[t], out);
      });
  }
  if (mode != kRaw) return mode;
  if (nibbles) {
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
  PlaneReader(const Plane& plane, const Arrangement& arrangement, Arrangement::Block block,
              uint8_t mode)
      : nibbles_(plane.bytes == 0), mode_(mode) {
    const size_t t = static_cast<size_t>(mode - kFirstTable);
    if (mode == kSparse) {
      sparse_.emplace();
    } else if (mode == kByClass) {
      if (can_go_by_class(plane, arrangement))
        rans_.emplace(runs_by_class(plane, arrangement, block));
    } else if (mode >= kFirstTable && t < plane.tables.size()) {
      if (plane.coder == Coder::rans)
        rans_.emplace(std::vector<RansRun>{{plane.rans[t].get(), block.count * (nibbles_ ? 2 : 1)}});
      else
        table_ = plane.tables[t].get();
    }
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
    if (rans_) return rans_->open(data, size);
    if (sparse_) return sparse_->open(data, size, n);
    if (!table_) return false;
    decoded_.resize(n);  // the arithmetic coder knows only at the end whether it was right
    data_ = reinterpret_cast<const uint8_t*>(decoded_.data());
    return arithmetic_decode(data, size, *table_, decoded_.data(), n);
  }

  // The next values; calls but the last ask for a multiple of kMaxLanes.
  bool read(Value* values, size_t count) {
    if (rans_) return rans_->read(values, count);
    if (sparse_) return sparse_->read(values, count);
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

  bool finished() const {
    return rans_ ? rans_->finished() : !sparse_ || sparse_->finished();
  }

 private:
  bool nibbles_;
  uint8_t mode_;
  const uint8_t* data_ = nullptr;
  Value constant_ = 0;
  std::optional<RansReader<Value>> rans_;
  std::optional<SparseReader<Value>> sparse_;
  const RangeTable* table_ = nullptr;
  std::vector<Value> decoded_;
};

// A plane on its way into elements of type T.
template <typename T>
class PlaneJoiner {
 public:
  PlaneJoiner(const Plane& plane, const Arrangement& arrangement, Arrangement::Block block,
              uint8_t mode)
      : plane_(plane),
        bytes_(plane, arrangement, block, mode),
        pairs_(plane, arrangement, block, mode) {}

  bool open(const uint8_t* data, size_t size, size_t n) {
    if (plane_.bytes == 2) return pairs_.open(data, size, n);
    return bytes_.open(data, size, plane_.bytes == 0 ? 2 * n : n);
  }

  // Puts the next `count` values where they belong; the first plane overwrites what is there.
  bool join(T* elements, size_t count, bool first) {
    alignas(64) uint8_t scratch[kChunkBytes];
    if constexpr (sizeof(T) == 1) {
      if (plane_.bytes == 1) return bytes_.read(elements, count);
      for (size_t at = 0; at < count; at += kChunkBytes / 4) {
        const size_t some = std::min(kChunkBytes / 4, count - at);
        if (!bytes_.read(scratch, 2 * some)) return false;
        plane_loops<T>().join_nibbles(scratch, some, elements + at);
      }
      return true;
    } else if (plane_.bytes == 1) {
      if (!bytes_.read(scratch, count)) return false;
      plane_loops<T>().join_bytes(scratch, count, plane_.offset, first, elements);
    } else if constexpr (sizeof(T) == 2) {
      return pairs_.read(elements, count);
    } else {
      auto* const values = reinterpret_cast<uint16_t*>(scratch);
      if (!pairs_.read(values, count)) return false;
      plane_loops<T>().join_pairs(values, count, plane_.offset, first, elements);
    }
    return true;
  }

  bool finished() const { return plane_.bytes == 2 ? pairs_.finished() : bytes_.finished(); }

 private:
  const Plane& plane_;
  PlaneReader<uint8_t> bytes_;
  PlaneReader<uint16_t> pairs_;
};

// Where the next elements of a block go, and how many of them.
template <typename T>
struct Room {
  T* elements;
  size_t count;
};

// Decodes a block chunk by chunk: planes joined, remap undone and checksum taken while the chunk is in the
// first-level cache. `room(at)` says where a chunk goes, at most kChunkBytes and all but the last whole rounds of
// the checksum, and `done(at, count)` is told when it is there; rooms that do not follow on each other must have
// kept the last kStripe bytes before them, if the last one is shorter than that.
template <typename T, typename NextRoom, typename Done>
bool read_block(const Plan& plan, const Arrangement& arrangement, Arrangement::Block block,
                const uint8_t* data, const uint8_t* modes, const uint32_t* lengths,
                const uint64_t* checksum, const NextRoom& room, const Done& done) {
  const size_t n = block.count;
  std::deque<PlaneJoiner<T>> planes;
  for (size_t p = 0; p < plan.planes.size(); data += lengths[p], ++p)
    if (!planes.emplace_back(plan.planes[p], arrangement, block, modes[p]).open(data, lengths[p], n))
      return false;
  const PlaneLoops<T> loops = plane_loops<T>();
  Xxh3 hash(nullptr, n * sizeof(T));
  for (size_t at = 0; at < n;) {
    const auto [elements, count] = room(at);
    for (auto& plane : planes)
      if (!plane.join(elements, count, &plane == &planes.front())) return false;
    loops.remap_inverse(plan.remap, elements, count);
    if (checksum) {
      hash.move(reinterpret_cast<const uint8_t*>(elements), at * sizeof(T));
      hash.eat((at + count) * sizeof(T));
    }
    done(at, count);
    at += count;
  }
  return std::all_of(planes.begin(), planes.end(), [](auto& p) { return p.finished(); }) &&
         (!checksum || hash.finish() == *checksum);
}

// Rows that are worth decoding by themselves are at least so long.
constexpr size_t kLongRowBytes = 4096;

// Decodes a block to where its elements belong: straight there where they lie together, or in long rows, else
// by way of one chunk of scratch.
template <typename T>
bool place_block(const Plan& plan, const Arrangement& arrangement, Arrangement::Block block,
                 const uint8_t* data, const uint8_t* modes, const uint32_t* lengths,
                 const uint64_t* checksum, const Window& window) {
  constexpr size_t chunk = kChunkBytes / sizeof(T), kept = kStripe / sizeof(T);
  const auto read = [&](const auto& room, const auto& done) {
    return read_block<T>(plan, arrangement, block, data, modes, lengths, checksum, room, done);
  };
  const auto nothing = [](size_t, size_t) {};
  const auto place_of = [&](size_t element) {
    return reinterpret_cast<T*>(window.to) + (element - window.first);
  };
  const bool all_wanted = window.first == 0 && window.last == arrangement.elements();
  if (!arrangement.in_classes() && window.first <= block.start &&
      block.start + block.count <= window.last)
    return read(
        [&](size_t at) { return Room<T>{place_of(block.start + at), std::min(chunk, block.count - at)}; },
        nothing);
  if (all_wanted && arrangement.has_rows_of(kLongRowBytes / sizeof(T), block))
    return read(
        [&](size_t at) {
          const auto run = arrangement.run_at(block.start + at, std::min(chunk, block.count - at));
          return Room<T>{place_of(run.original), run.count};
        },
        nothing);
  alignas(64) T scratch[kept + chunk];
  const auto room = [&](size_t at) {
    if (at) std::copy_n(scratch + chunk, kept, scratch);  // the end of the chunk before
    return Room<T>{scratch + kept, std::min(chunk, block.count - at)};
  };
  const auto place = [&](size_t at, size_t count) {
    arrangement.each_run(block.start + at, count, [&](size_t stored, size_t original, size_t run) {
      const size_t first = std::max(original, window.first);
      const size_t last = std::min(original + run, window.last);
      if (first < last)
        std::memcpy(window.to + (first - window.first) * sizeof(T),
                    scratch + kept + (stored - block.start - at) + (first - original),
                    (last - first) * sizeof(T));
    });
  };
  return read(room, place);
}

}  // namespace

Packed pack_blocks(const Plan& plan, const Arrangement& arrangement, const uint8_t* data,
                   int threads, uint8_t* payload) {
  const size_t blocks = arrangement.blocks(), planes = plan.planes.size();
  const auto element = static_cast<size_t>(plan.element_bytes);
  Packed packed;
  packed.modes.resize(blocks * planes);
  packed.lengths.resize(blocks * planes);
  packed.checksums.resize(blocks);
  // One thread puts each block behind the one before. For several, no plane takes more than its raw bytes, so each
  // block has a place of its own, and they close up afterwards.
  const bool in_order = threads <= 1;
  parallel_for(blocks, threads, [&](size_t b) {
    const Arrangement::Block block = arrangement.block(b);
    std::vector<uint8_t>& out = scratch<uint8_t, Use::payload>(0);
    with_element(plan.element_bytes, [&](auto zero) {
      auto& elements = load_block<decltype(zero)>(arrangement, block, data);
      packed.checksums[b] =
          xxh3(reinterpret_cast<const uint8_t*>(elements.data()), block.count * element);
      plane_loops<decltype(zero)>().remap_forward(plan.remap, elements.data(), block.count);
      for (size_t p = 0; p < planes; ++p) {
        const Plane& plane = plan.planes[p];
        const size_t before = out.size(), at = b * planes + p;
        packed.modes[at] =
            plane.bytes == 2
                ? write_plane(plane, arrangement, block, cut<uint16_t>(plane, elements), out)
                : write_plane(plane, arrangement, block, cut<uint8_t>(plane, elements), out);
        packed.lengths[at] = static_cast<uint32_t>(out.size() - before);
      }
    });
    const size_t place = in_order ? packed.payload_bytes : arrangement.block(b).start * element;
    std::memcpy(payload + place, out.data(), out.size());
    if (in_order) packed.payload_bytes += out.size();
  });
  for (size_t b = 0; b < blocks && !in_order; ++b) {
    size_t size = 0;
    for (size_t p = 0; p < planes; ++p) size += packed.lengths[b * planes + p];
    std::memmove(payload + packed.payload_bytes, payload + arrangement.block(b).start * element, size);
    packed.payload_bytes += size;
  }
  return packed;
}

int64_t unpack_blocks(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                      const Window& window, bool verify, int threads) {
  const size_t planes = plan.planes.size();
  const auto misfit = static_cast<int64_t>(blocks.count);
  if (blocks.count > arrangement.blocks() || blocks.first > arrangement.blocks() - blocks.count)
    return misfit;
  std::vector<size_t> starts(blocks.count + 1, 0);
  for (size_t b = 0; b < blocks.count; ++b) {
    starts[b + 1] = starts[b];
    for (size_t p = 0; p < planes; ++p) starts[b + 1] += blocks.lengths[b * planes + p];
  }
  if (starts[blocks.count] != blocks.payload_bytes) return misfit;

  std::atomic<int64_t> damaged{misfit + 1};
  parallel_for(blocks.count, threads, [&](size_t b) {
    const bool well = with_element(plan.element_bytes, [&](auto zero) {
      return place_block<decltype(zero)>(
          plan, arrangement, arrangement.block(blocks.first + b), blocks.payload + starts[b],
          blocks.modes + b * planes, blocks.lengths + b * planes,
          verify ? blocks.checksums + b : nullptr, window);
    });
    if (well) return;
    int64_t known = damaged.load();
    while (static_cast<int64_t>(b) < known &&
           !damaged.compare_exchange_weak(known, static_cast<int64_t>(b))) {
    }
  });
  return damaged.load() > misfit ? kAllWell : damaged.load();
}

}  // namespace fewbits
