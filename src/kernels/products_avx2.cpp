// The loops of products.hpp as the compiler makes them for AVX2.
#include "products.hpp"

#if defined(__AVX2__)

namespace fewbits {

AllProductLoops product_loops_avx2() { return kProductLoops; }

}  // namespace fewbits

#endif
