// The loops of search_loops.hpp, compiled for AVX-512.
#include "search_loops.hpp"

#if defined(__AVX512F__)

namespace fewbits {

QuickLoops quick_loops_avx512() { return kQuickLoops; }

}  // namespace fewbits

#endif
