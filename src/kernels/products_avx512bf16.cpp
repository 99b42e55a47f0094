// Products of bfloat16 with bfloat16 by the processor's own instruction for pairs of them.
#include "products.hpp"

#if defined(__AVX512BF16__)

#include <immintrin.h>

namespace fewbits {

namespace {

struct Bfloat16Pairs {
  using Element = uint16_t;
  using With = uint16_t;
  using Numbers = __m512bh;
  using Sum = Floats;
  static Numbers load(const uint16_t* from) { return load_vector<Numbers>(from); }
  static Numbers load_with(const uint16_t* from) { return load(from); }
  static void add(Sum& sum, const Numbers& numbers, const Numbers& with) {
    sum = reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), numbers, with));
  }
  static Floats total(const Sum& sum) { return sum; }
};

}  // namespace

ProductLoops<uint16_t, uint16_t> pair_loops_avx512bf16() {
  return kLoopsOf<Bfloat16Pairs, 2, 4>;
}

}  // namespace fewbits

#endif
