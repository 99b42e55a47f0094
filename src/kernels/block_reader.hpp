// Reading the blocks of a frame: what unpacks them and what computes with them share.
//
// A block is decoded in chunks that stay in the first-level cache, so that whatever is done to a chunk
// finds it there.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <vector>

#include "arithmetic.hpp"
#include "blocks.hpp"
#include "elements.hpp"
#include "parallel.hpp"
#include "sparse.hpp"
#include "xxh3.hpp"

namespace fewbits {

// One block of a frame: its payload and its entries of the index.
struct BlockParts {
  Arrangement::Block block;
  const uint8_t* data;
  const uint8_t* modes;
  const uint32_t* lengths;
  const uint64_t* checksum;  // null where it is not to be checked
  size_t number;             // counted from the first that was given
};

// Calls work(parts) for each block on up to `threads` threads; returns kAllWell or the number of the first for
// which it was false (one past the last if the sizes do not fit together), counted from the first given.
template <typename Work>
int64_t each_block(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                   bool verify, int threads, const Work& work) {
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
    const BlockParts parts{arrangement.block(blocks.first + b),
                           blocks.payload + starts[b],
                           blocks.modes + b * planes,
                           blocks.lengths + b * planes,
                           verify ? blocks.checksums + b : nullptr,
                           b};
    if (work(parts)) return;
    int64_t known = damaged.load();
    while (static_cast<int64_t>(b) < known &&
           !damaged.compare_exchange_weak(known, static_cast<int64_t>(b))) {
    }
  });
  return damaged.load() > misfit ? kAllWell : damaged.load();
}

namespace {  // as the loops of planes.hpp

// What is decoded before it is joined, remapped and hashed: a third of a first-level cache.
constexpr size_t kChunkBytes = size_t{1} << 14;

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

// The values of one plane of one block, some at a time.
template <typename Value>
class PlaneReader {
 public:
  // Values go back through the remap.
  PlaneReader(const Plane& plane, const Arrangement& arrangement, Arrangement::Block block,
              uint8_t mode, Remap remap)
      : nibbles_(plane.bytes == 0), mode_(mode), remap_(remap) {
    const size_t t = static_cast<size_t>(mode - kFirstTable);
    if (mode == kSparse) {
      sparse_.emplace();
    } else if (mode == kByClass) {
      if (can_go_by_class(plane, arrangement))
        rans_.emplace(runs_by_class(plane, arrangement, block), remap);
    } else if (mode >= kFirstTable && t < plane.tables.size()) {
      if (plane.coder == Coder::rans)
        rans_.emplace(std::vector<RansRun>{{plane.rans[t].get(), block.count * (nibbles_ ? 2 : 1)}},
                      remap);
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

  // The next values; calls but the last ask for a multiple of kMaxLanes. As RansReader::read.
  bool read(Value* values, size_t count, Xxh3* hash = nullptr) {
    if (rans_) return rans_->read(values, count, hash);  // remapped in the same loop
    if (sparse_) {
      if (!sparse_->read(values, count)) return false;
    } else if (mode_ == kConstant) {
      std::fill_n(values, count, constant_);
    } else if (mode_ == kRaw && nibbles_) {
      if constexpr (sizeof(Value) == 1) cut_nibbles(data_, count / 2, values);
      data_ += count / 2;
    } else {
      std::memcpy(values, data_, count * sizeof(Value));
      data_ += count * sizeof(Value);
    }
    plane_loops<Value>().remap_inverse(remap_, values, count);
    return true;
  }

  bool finished() const {
    return rans_ ? rans_->finished() : !sparse_ || sparse_->finished();
  }

 private:
  bool nibbles_;
  uint8_t mode_;
  Remap remap_;
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
  // Where the plane is all of the element, elements go back through the remap, too.
  PlaneJoiner(const Plane& plane, const Arrangement& arrangement, Arrangement::Block block,
              uint8_t mode, Remap remap)
      : plane_(plane),
        bytes_(plane, arrangement, block, mode, all_of_element(plane) ? remap : Remap::identity),
        pairs_(plane, arrangement, block, mode, all_of_element(plane) ? remap : Remap::identity) {}

  static bool all_of_element(const Plane& plane) { return plane.bytes == sizeof(T); }

  bool open(const uint8_t* data, size_t size, size_t n) {
    if (plane_.bytes == 2) return pairs_.open(data, size, n);
    return bytes_.open(data, size, plane_.bytes == 0 ? 2 * n : n);
  }

  // Puts the next `count` values where they belong; the first plane overwrites what is there. Where the plane is
  // all of the element, a hash that runs over the elements may eat some.
  bool join(T* elements, size_t count, bool first, Xxh3* hash) {
    if (all_of_element(plane_)) {
      if constexpr (sizeof(T) == 1) return bytes_.read(elements, count, hash);
      if constexpr (sizeof(T) == 2) return pairs_.read(elements, count, hash);
    }
    constexpr size_t piece = kChunkBytes / 4;
    alignas(64) uint8_t scratch[2 * piece];
    for (size_t at = 0; at < count; at += piece)
      if (!join_piece(elements + at, std::min(piece, count - at), first, scratch)) return false;
    return true;
  }

  bool finished() const { return plane_.bytes == 2 ? pairs_.finished() : bytes_.finished(); }

 private:
  bool join_piece(T* elements, size_t count, bool first, uint8_t* scratch) {
    if (plane_.bytes == 2) {
      auto* const values = reinterpret_cast<uint16_t*>(scratch);
      if (!pairs_.read(values, count)) return false;
      plane_loops<T>().join_pairs(values, count, plane_.offset, first, elements);
      return true;
    }
    if (!bytes_.read(scratch, plane_.bytes ? count : 2 * count)) return false;
    if (plane_.bytes) {
      plane_loops<T>().join_bytes(scratch, count, plane_.offset, first, elements);
    } else if constexpr (sizeof(T) == 1) {
      plane_loops<T>().join_nibbles(scratch, count, elements);
    }
    return true;
  }

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
bool read_block(const Plan& plan, const Arrangement& arrangement, const BlockParts& parts,
                const NextRoom& room, const Done& done) {
  const size_t n = parts.block.count;
  const uint8_t* data = parts.data;
  std::deque<PlaneJoiner<T>> planes;
  for (size_t p = 0; p < plan.planes.size(); data += parts.lengths[p], ++p)
    if (!planes.emplace_back(plan.planes[p], arrangement, parts.block, parts.modes[p],
                              plan.remap)
             .open(data, parts.lengths[p], n))
      return false;
  const PlaneLoops<T> loops = plane_loops<T>();
  Xxh3 hash(nullptr, n * sizeof(T));
  for (size_t at = 0; at < n;) {
    const auto [elements, count] = room(at);
    if (parts.checksum)
      hash.move(reinterpret_cast<const uint8_t*>(elements), at * sizeof(T));
    for (auto& plane : planes)
      if (!plane.join(elements, count, &plane == &planes.front(), parts.checksum ? &hash : nullptr))
        return false;
    if (!PlaneJoiner<T>::all_of_element(plan.planes.front()))
      loops.remap_inverse(plan.remap, elements, count);
    if (parts.checksum) hash.eat((at + count) * sizeof(T));
    done(at, count);
    at += count;
  }
  return std::all_of(planes.begin(), planes.end(), [](auto& p) { return p.finished(); }) &&
         (!parts.checksum || hash.finish() == *parts.checksum);
}

// Of `most` elements from position `at` of a tensor on, as many as make up whole rows, a multiple of `rows` of them if
// that is less; from within a row, those up to its end. All of them where a chunk cannot have that size.
template <typename T>
size_t whole_rows(size_t at, size_t most, size_t columns, size_t rows) {
  constexpr size_t unit = std::max(kRound / sizeof(T), kMaxLanes);
  const size_t within = at % columns;
  const size_t some = within ? columns - within : most / (rows * columns) * (rows * columns);
  return some && some <= most && some % unit == 0 ? some : most;
}

// Decodes a block by way of one chunk of scratch of so many bytes; visit(original, elements, count) gets what follows
// on each other in the tensor, from its element `original` on. `chunk_at(at)` says how many of at most so many elements
// from the block's element `at` on go at a time, all but the last whole rounds of kMaxLanes and of the hash.
template <typename T, size_t kBytes = kChunkBytes, typename Visit, typename ChunkAt>
bool visit_block(const Plan& plan, const Arrangement& arrangement, const BlockParts& parts,
                 const Visit& visit, const ChunkAt& chunk_at) {
  constexpr size_t chunk = kBytes / sizeof(T), kept = kStripe / sizeof(T);
  const Arrangement::Block block = parts.block;
  alignas(64) T scratch[kept + chunk];
  size_t last = 0;  // elements of the chunk before
  const auto room = [&](size_t at) {
    if (last) std::copy_n(scratch + last, kept, scratch);  // the end of the chunk before
    last = std::min(chunk_at(at, chunk), block.count - at);
    return Room<T>{scratch + kept, last};
  };
  const auto done = [&](size_t at, size_t count) {
    arrangement.each_run(block.start + at, count, [&](size_t stored, size_t original, size_t run) {
      visit(original, scratch + kept + (stored - block.start - at), run);
    });
  };
  return read_block<T>(plan, arrangement, parts, room, done);
}

}  // namespace

}  // namespace fewbits
