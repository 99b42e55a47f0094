// The loops of products.hpp as the compiler makes them for AVX2.
#include "products.hpp"

#if defined(__AVX2__)

namespace fewbits {

DotLoops dot_loops_avx2() { return kDotLoops; }

}  // namespace fewbits

#endif
