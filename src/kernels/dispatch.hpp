// Which instruction set the kernels use: the widest the processor has, or the one asked for.
#pragma once

#include <string>
#include <vector>

namespace fewbits {

enum class Simd { portable = 0, avx2 = 1, avx512 = 2 };

// The one in use. Starts as FEWBITS_SIMD says ("portable", "avx2", "avx512"), else the widest here;
// a name that is unknown or not to be had here falls back to the widest below it.
Simd simd();

// Names of what this processor can run, narrowest first.
std::vector<std::string> available_simd();

std::string simd_name();

// Switches at run time (for tests and benchmarks). Throws std::invalid_argument if not available.
void set_simd(const std::string& name);

}  // namespace fewbits
