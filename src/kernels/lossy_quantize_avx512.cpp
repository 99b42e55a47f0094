// The loops of lossy_quantize_loops.hpp as the compiler vectorises them for AVX-512.
#include "lossy_quantize_loops.hpp"

#if defined(__AVX512F__)

namespace fewbits {

QuantizeLoops quantize_loops_avx512() { return {encode_groups, decode_groups}; }

}  // namespace fewbits

#endif
