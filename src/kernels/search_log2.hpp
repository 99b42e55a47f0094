// A logarithm of many floats at a time, to about 22 bits.
#pragma once

namespace fewbits {

namespace {  // the same source is compiled for several instruction sets

// log2 of positive, normal floats: with m the mantissa, between the roots of 1/2 and of 2, and
// s = (m - 1) / (m + 1), so that |s| < 0.172, it is exponent + 2 / ln 2 * (s + s^3 / 3 + s^5 / 5 + s^7 / 7), and
// what the series leaves out is below 2^-25. Of 0 it is some finite number. Floats and Ints are vectors of as many.
template <typename Floats, typename Ints>
inline Floats quick_log2(const Floats& x) {
  constexpr float two_by_ln2 = 2.8853900817779268f;
  const Ints bits = (Ints)x;
  const Ints exponent = (bits - 0x3F3504F3) >> 23;
  const Floats m = (Floats)(bits - (exponent << 23));
  const Floats s = (m - 1.f) / (m + 1.f), s2 = s * s;
  return __builtin_convertvector(exponent, Floats) +
         two_by_ln2 * s * (1.f + s2 * (1.f / 3 + s2 * (1.f / 5 + s2 * (1.f / 7))));
}

}  // namespace

}  // namespace fewbits
