// What a plan may be: each rule here is one that docs/format.md asks a reader to check.
#include <algorithm>
#include <stdexcept>

#include "arithmetic.hpp"
#include "blocks.hpp"

namespace fewbits {

Plane::Plane(int bytes_, int offset_, Coder coder_, int verbatim_bits,
             std::vector<std::shared_ptr<const RangeTable>> tables_)
    : bytes(bytes_), offset(offset_), coder(coder_), tables(std::move(tables_)) {
  if (bytes < 0 || bytes > 2 || offset < 0)
    throw std::invalid_argument("plane: width or offset out of range");
  if ((coder == Coder::none) != tables.empty() || tables.size() > kMaxTables)
    throw std::invalid_argument("plane: tables go with a coder");
  if (verbatim_bits && coder != Coder::rans)
    throw std::invalid_argument("plane: verbatim bits go with rANS");
  const int width = bytes == 0 ? 4 : 8 * bytes;
  for (const auto& table : tables) {
    if (table->width != width) throw std::invalid_argument("plane: table of another width");
    if (coder == Coder::rans)
      rans.push_back(std::make_shared<RansTable>(*table, verbatim_bits));
    else if (table->count_bits > kArithmeticMaxCountBits)
      throw std::invalid_argument("plane: more than 14 count bits for the arithmetic coder");
  }
}

Plan::Plan(int element_bytes_, Remap remap_, std::vector<Plane> planes_)
    : element_bytes(element_bytes_), remap(remap_), planes(std::move(planes_)) {
  if (!(element_bytes == 1 || element_bytes == 2 || element_bytes == 4 || element_bytes == 8))
    throw std::invalid_argument("plan: elements are 1, 2, 4 or 8 bytes");
  std::vector<bool> taken(static_cast<size_t>(element_bytes), false);
  for (const Plane& plane : planes) {
    const int bytes = plane.bytes ? plane.bytes : 1;
    if (plane.offset + bytes > element_bytes || (plane.bytes == 0 && element_bytes != 1))
      throw std::invalid_argument("plan: a plane leaves the element");
    for (int b = plane.offset; b < plane.offset + bytes; ++b) {
      if (taken[static_cast<size_t>(b)]) throw std::invalid_argument("plan: planes overlap");
      taken[static_cast<size_t>(b)] = true;
    }
  }
  if (std::find(taken.begin(), taken.end(), false) != taken.end())
    throw std::invalid_argument("plan: planes leave a byte out");
}

}  // namespace fewbits
