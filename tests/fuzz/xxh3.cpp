// The checksum of any bytes: the same on every instruction set, from any address, eaten whole or in pieces.
#include "xxh3.hpp"

#include "input.hpp"

namespace fewbits::fuzz {
namespace {

void run(Input in) {
  const size_t shift = in.take<uint8_t>() % 64, step = in.take<uint16_t>() + 1u;
  const size_t repeat = in.take<uint8_t>() % 8 + 1;
  const auto once = in.rest();
  std::vector<uint8_t> bytes(shift);
  for (size_t i = 0; i < repeat; ++i) bytes.insert(bytes.end(), once.begin(), once.end());
  bytes.shrink_to_fit();
  const uint8_t* const data = bytes.data() + shift;
  const size_t size = bytes.size() - shift;
  set_simd("portable");
  const uint64_t wanted = xxh3(data, size);
  on_every_simd([&] {
    require(xxh3(data, size) == wanted, "instruction sets agree");
    Xxh3 hash(data, size);
    for (size_t filled = 0; filled < size; filled += step) hash.eat(filled);
    require(hash.finish() == wanted, "pieces add up");
  });
}

}  // namespace
}  // namespace fewbits::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fewbits::fuzz::run({data, size});
  return 0;
}
