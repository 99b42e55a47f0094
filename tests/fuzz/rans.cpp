// rANS payloads under any table: every instruction set, read whole or in pieces, must stay within its
// buffers and come to the same verdict and the same values.
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

template <typename Value>
struct Outcome {
  bool opened = false, read = false, finished = false;
  std::vector<Value> values;  // mean something only if all were read
};

template <typename Value>
Outcome<Value> decode(const RansTable& table, const std::vector<uint8_t>& payload, size_t n,
                      size_t piece) {
  Outcome<Value> found;
  found.values.resize(n);
  found.values.shrink_to_fit();
  RansReader<Value> reader(table);
  found.opened = reader.open(payload.data(), payload.size(), n);
  found.read = found.opened;
  for (size_t at = 0; found.read && at < n; at += piece)
    found.read = reader.read(found.values.data() + at, std::min(piece, n - at));
  found.finished = found.read && reader.finished();
  return found;
}

template <typename Value>
void run(const RansTable& table, const std::vector<uint8_t>& payload, size_t n, size_t piece) {
  set_simd("portable");
  const auto plain = decode<Value>(table, payload, n, std::max<size_t>(n, 1));
  on_every_simd([&] {
    const auto found = decode<Value>(table, payload, n, piece);
    require(found.opened == plain.opened, "all open or none");
    require(found.read == plain.read, "all read or none");
    require(found.finished == plain.finished, "all finish or none");
    require(!plain.read || found.values == plain.values, "all read the same values");
  });
}

void run(Input in) {
  const auto source = take_table(in);
  const int verbatim_bits = in.take<uint8_t>();
  const size_t n = in.take<uint16_t>();
  const size_t piece = kMaxLanes * (in.take<uint8_t>() % 16 + 1);
  const RansTable table(*source, verbatim_bits);
  const auto payload = in.rest();
  if (source->width > 8) run<uint16_t>(table, payload, n, piece);
  else run<uint8_t>(table, payload, n, piece);
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
