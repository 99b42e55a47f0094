#include "blocks.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "arithmetic.hpp"
#include "bits.hpp"
#include "block_reader.hpp"
#include "elements.hpp"
#include "parallel.hpp"
#include "past_caches.hpp"
#include "sparse.hpp"
#include "xxh3.hpp"

namespace fewbits {

namespace {

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

// Rows that are worth decoding by themselves are at least so long.
constexpr size_t kLongRowBytes = 4096;

// What is decoded before it is copied to memory: little, so that memory has something to do at all times.
constexpr size_t kCopiedBytes = size_t{1} << 13;

// Decodes a block to where its elements belong: straight there where they lie together, or in long rows, else
// by way of one chunk of scratch.
template <typename T>
bool place_block(const Plan& plan, const Arrangement& arrangement, const BlockParts& parts,
                 const Window& window) {
  constexpr size_t chunk = kChunkBytes / sizeof(T);
  const Arrangement::Block block = parts.block;
  const auto read = [&](const auto& room, const auto& done) {
    return read_block<T>(plan, arrangement, parts, room, done);
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
  const bool large = (window.last - window.first) * sizeof(T) >= kPastCaches;
  if (!large && all_wanted && arrangement.has_rows_of(kLongRowBytes / sizeof(T), block))
    return read(
        [&](size_t at) {
          const auto run = arrangement.run_at(block.start + at, std::min(chunk, block.count - at));
          return Room<T>{place_of(run.original), run.count};
        },
        nothing);
  const auto place = [&](size_t original, const T* elements, size_t count) {
    const size_t first = std::max(original, window.first);
    const size_t last = std::min(original + count, window.last);
    if (first >= last) return;
    auto* const to = reinterpret_cast<uint8_t*>(place_of(first));
    const auto* const from = reinterpret_cast<const uint8_t*>(elements + (first - original));
    const size_t bytes = (last - first) * sizeof(T);
    if (large) copy_past_caches(to, from, bytes);
    else std::memcpy(to, from, bytes);
  };
  const auto all_that_fit = [](size_t, size_t most) { return most; };
  const bool well = visit_block<T, kCopiedBytes>(plan, arrangement, parts, place, all_that_fit);
  finish_copies();
  return well;
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
  return each_block(
      plan, arrangement, blocks, verify, threads, [&](const BlockParts& parts) {
        return with_element(plan.element_bytes, [&](auto zero) {
          return place_block<decltype(zero)>(plan, arrangement, parts, window);
        });
      });
}

}  // namespace fewbits
