// A tensor as blocks: independent runs of elements, each cut into planes, each plane of each block
// written the cheapest way that its plan allows. Blocks are what threads share and slices skip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "buffer.hpp"
#include "planes.hpp"
#include "range_table.hpp"
#include "rans.hpp"

namespace fewbits {

enum class Coder : uint8_t { none = 0, rans = 1, arithmetic = 2 };

// How one plane of one block is written. kFirstTable + t: with table t.
inline constexpr uint8_t kRaw = 0, kConstant = 1, kFirstTable = 2;

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
  size_t block_elements;
  std::vector<Plane> planes;

  // Throws std::invalid_argument unless the planes partition the element.
  Plan(int element_bytes, Remap remap, size_t block_elements, std::vector<Plane> planes);

  size_t blocks(size_t bytes) const;
};

struct Packed {
  Bytes payload;
  size_t payload_bytes = 0;
  std::vector<uint8_t> modes;       // blocks x planes
  std::vector<uint32_t> lengths;    // blocks x planes, bytes of payload
  std::vector<uint64_t> checksums;  // XXH3 of each block's elements as they were given
};

// Packs `bytes` bytes, a whole number of elements.
Packed pack_blocks(const Plan& plan, const uint8_t* data, size_t bytes, int threads);

inline constexpr int64_t kAllWell = -1;

// Unpacks as many blocks as `out` holds; modes, lengths and checksums are those blocks' own and
// `payload` is exactly theirs. Returns kAllWell or the number of the first damaged block (one past the
// last if the sizes do not fit together). Safe on any bytes.
int64_t unpack_blocks(const Plan& plan, const uint8_t* payload, size_t payload_bytes,
                      const uint8_t* modes, const uint32_t* lengths, const uint64_t* checksums,
                      size_t blocks, uint8_t* out, size_t out_bytes, bool verify, int threads);

// Occurrences of each value of one plane.
std::vector<uint64_t> plane_histogram(const Plan& plan, size_t plane, const uint8_t* data,
                                      size_t bytes);

}  // namespace fewbits
