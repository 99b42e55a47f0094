// Arithmetic payloads under any table. What decodes must be, to the last bit, what the encoder writes.
#include "arithmetic.hpp"

#include "input.hpp"

namespace fewbits::fuzz {
namespace {

template <typename Value>
void run(const RangeTable& table, const std::vector<uint8_t>& payload, size_t n) {
  std::vector<Value> values(n);
  if (!arithmetic_decode(payload.data(), payload.size(), table, values.data(), n)) return;
  std::vector<uint8_t> again;
  require(arithmetic_encode(values.data(), n, table, again), "what was decoded can be encoded");
  require(again == payload, "encoding gives back the payload");
}

void run(Input in) {
  const auto table = take_table(in);
  const size_t n = in.take<uint16_t>();
  const auto payload = in.rest();
  if (table->width <= 8) run<uint8_t>(*table, payload, n);
  run<uint16_t>(*table, payload, n);  // narrow values may lie in wide ones
}

}  // namespace
}  // namespace fewbits::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    fewbits::fuzz::run({data, size});
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
