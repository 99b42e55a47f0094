// The loops of lossy_mask_loops.hpp as the compiler vectorises them for AVX-512.
#include "lossy_mask_loops.hpp"

#if defined(__AVX512F__)

namespace fewbits {

MaskLoops mask_loops_avx512() { return {pack_rows, apply_rows, spread_rows}; }

}  // namespace fewbits

#endif
