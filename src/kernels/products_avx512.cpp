// The loops of products.hpp as the compiler makes them for AVX-512.
#include "products.hpp"

#if defined(__AVX512F__)

namespace fewbits {

AllProductLoops product_loops_avx512() { return kProductLoops; }

}  // namespace fewbits

#endif
