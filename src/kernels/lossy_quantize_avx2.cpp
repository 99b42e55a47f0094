// The loops of lossy_quantize_loops.hpp as the compiler vectorises them for AVX2.
#include "lossy_quantize_loops.hpp"

#if defined(__AVX2__)

namespace fewbits {

QuantizeLoops quantize_loops_avx2() { return {encode_groups, decode_groups}; }

}  // namespace fewbits

#endif
