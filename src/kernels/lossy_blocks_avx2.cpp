// The loops of the codecs that work on blocks, as the compiler vectorises them for AVX2.
#include "lossy_bounded_loops.hpp"
#include "lossy_dct_loops.hpp"
#include "lossy_fixedrate_loops.hpp"

#if defined(__AVX2__)

namespace fewbits {

BoundedLoops bounded_loops_avx2() { return {bounded_encode, bounded_decode}; }
DctLoops dct_loops_avx2() { return {dct_encode_loop, dct_decode_loop}; }
FixedRateLoops fixed_loops_avx2() { return {fixed_encode_loop, fixed_decode_loop}; }

}  // namespace fewbits

#endif
