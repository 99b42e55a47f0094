// The remap of elements that brings likely values together.
#pragma once

#include <cstdint>

namespace fewbits {

// sign_to_lsb moves the sign below the rest of the top 16 bits (of the byte, in one-byte elements): so
// exponents lead, and the field below stays as it is, with zeros where a shorter float was widened.
enum class Remap : uint8_t { identity = 0, zigzag = 1, sign_to_lsb = 2 };

}  // namespace fewbits
