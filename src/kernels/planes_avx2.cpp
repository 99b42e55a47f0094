// The loops of planes.hpp as the compiler vectorises them for AVX2.
#include "planes.hpp"

#if defined(__AVX2__)

namespace fewbits {

template <typename T>
PlaneLoops<T> plane_loops_avx2() {
  return kPlaneLoops<T>;
}

template PlaneLoops<uint8_t> plane_loops_avx2();
template PlaneLoops<uint16_t> plane_loops_avx2();
template PlaneLoops<uint32_t> plane_loops_avx2();
template PlaneLoops<uint64_t> plane_loops_avx2();

}  // namespace fewbits

#endif
