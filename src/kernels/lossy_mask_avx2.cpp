// The loops of lossy_mask_loops.hpp as the compiler vectorises them for AVX2.
#include "lossy_mask_loops.hpp"

#if defined(__AVX2__)

namespace fewbits {

MaskLoops mask_loops_avx2() { return {pack_rows, apply_rows, spread_rows}; }

}  // namespace fewbits

#endif
