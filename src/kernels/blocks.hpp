// A tensor as blocks: independent runs of elements, each cut into planes, each plane of each block
// written the cheapest way that its plan allows. Blocks are what threads share and slices skip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "arrangement.hpp"
#include "planes.hpp"
#include "range_table.hpp"
#include "rans.hpp"

namespace fewbits {

enum class Coder : uint8_t { none = 0, rans = 1, arithmetic = 2 };

// How one plane of one block is written. kFirstTable + t: with table t; kByClass: each value with the table
// whose number is that of its class; kSparse: as sparse.hpp does.
inline constexpr uint8_t kRaw = 0, kConstant = 1, kFirstTable = 2, kSparse = 254, kByClass = 255;
inline constexpr size_t kMaxTables = kSparse - kFirstTable;

struct Plane {
  int bytes;    // 1 or 2; 0 for nibbles
  int offset;   // of the field in the element, in bytes
  Coder coder;
  std::vector<std::shared_ptr<const RangeTable>> tables;
  std::vector<std::shared_ptr<const RansTable>> rans;  // one for each table where the coder is rans

  Plane(int bytes, int offset, Coder coder, int verbatim_bits,
        std::vector<std::shared_ptr<const RangeTable>> tables);
};

struct Plan {
  int element_bytes;
  Remap remap;
  std::vector<Plane> planes;

  // Throws std::invalid_argument unless the planes partition the element.
  Plan(int element_bytes, Remap remap, std::vector<Plane> planes);
};

struct Packed {
  size_t payload_bytes = 0;
  std::vector<uint8_t> modes;       // blocks x planes
  std::vector<uint32_t> lengths;    // blocks x planes, bytes of payload
  std::vector<uint64_t> checksums;  // XXH3 of each block's elements as they were given
};

// Packs a tensor, whose elements are those of the arrangement. The payload, which never takes more bytes than
// they, goes to `payload`.
Packed pack_blocks(const Plan& plan, const Arrangement& arrangement, const uint8_t* data,
                   int threads, uint8_t* payload);

// A frame's blocks, first .. first + count - 1: their entries of the index and exactly their payload.
struct Blocks {
  size_t first, count;
  const uint8_t* modes;
  const uint32_t* lengths;
  const uint64_t* checksums;
  const uint8_t* payload;
  size_t payload_bytes;
};

// Where decoded elements go: `to` has room for elements first .. last - 1 of the tensor. What else the blocks
// hold is decoded, checked and dropped.
struct Window {
  size_t first, last;
  uint8_t* to;
};

inline constexpr int64_t kAllWell = -1;

// Unpacks blocks. Returns kAllWell or the number of the first damaged one (one past the last if the sizes do
// not fit together), counted from the first given. Safe on any bytes.
int64_t unpack_blocks(const Plan& plan, const Arrangement& arrangement, const Blocks& blocks,
                      const Window& window, bool verify, int threads);

}  // namespace fewbits
