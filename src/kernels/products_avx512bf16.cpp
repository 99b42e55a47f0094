// Products with bfloat16 by the processor's own instruction for pairs of them.
#include "products.hpp"

#if defined(__AVX512BF16__)

#include <immintrin.h>

namespace fewbits {

namespace {

// Pairs of bfloat16, whatever the numbers are stored as.
struct Pairs {
  using With = uint16_t;
  using Numbers = __m512bh;
  using Sum = Floats;
  static __m512bh load_with(const uint16_t* from) { return load_vector<__m512bh>(from); }
  static void add(Sum& sum, const Numbers& numbers, const __m512bh& with) {
    sum = reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), numbers, with));
  }
  static Floats total(const Sum& sum) { return sum; }
};

struct Bfloat16Pairs : Pairs {
  using Element = uint16_t;
  static Numbers load(const uint16_t* from) { return load_with(from); }
};

// Eight bits are as many as the mantissa of a bfloat16 has: these are exact.
struct Int8Pairs : Pairs {
  using Element = uint8_t;
  static Numbers load(const uint8_t* from) {
    const auto sixteen = [](const uint8_t* p) {
      return _mm512_cvtepi32_ps(
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    };
    return _mm512_cvtne2ps_pbh(sixteen(from + 16), sixteen(from));
  }
};

}  // namespace

PairLoops pair_loops_avx512bf16() {
  return {kLoopsOf<Bfloat16Pairs, 2, 4>, kLoopsOf<Int8Pairs, 2, 4>};
}

}  // namespace fewbits

#endif
