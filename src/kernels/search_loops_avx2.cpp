// The loops of search_loops.hpp, compiled for AVX2.
#include "search_loops.hpp"

#if defined(__AVX2__)

namespace fewbits {

QuickLoops quick_loops_avx2() { return kQuickLoops; }

}  // namespace fewbits

#endif
