// XXH3's loop in AVX-512.
#include "xxh3_avx512.hpp"

#if defined(__AVX512F__)

namespace fewbits {

void xxh3_rounds_avx512(uint64_t* acc_io, const uint8_t* data, size_t rounds) {
  __m512i acc = _mm512_load_si512(acc_io);
  for (; rounds > 0; --rounds, data += kRound) acc = xxh3_round(acc, data);
  _mm512_store_si512(acc_io, acc);
}

}  // namespace fewbits

#endif
