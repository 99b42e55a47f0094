// rANS payloads under any tables, one after the other: every instruction set, read whole or in pieces, must stay within its
// buffers and come to the same verdict and the same values.
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

template <typename Value>
struct Outcome {
  bool opened = false, read = false, finished = false;
  std::vector<Value> values;  // mean something only if all were read
  uint64_t hash = 0;          // as does this
};

template <typename Value>
Outcome<Value> decode(const Runs& runs, const std::vector<uint8_t>& payload, Remap remap,
                      size_t piece) {
  Outcome<Value> found;
  const size_t n = runs.all.back().end;
  found.values.resize(n);
  found.values.shrink_to_fit();
  RansReader<Value> reader(runs.all, remap);
  Xxh3 hash(reinterpret_cast<const uint8_t*>(found.values.data()), n * sizeof(Value));
  found.opened = reader.open(payload.data(), payload.size());
  found.read = found.opened;
  for (size_t at = 0; found.read && at < n; at += piece)
    found.read = reader.read(found.values.data() + at, std::min(piece, n - at), &hash);
  if (found.read) found.hash = hash.finish();
  found.finished = found.read && reader.finished();
  return found;
}

template <typename Value>
void run(const Runs& runs, const std::vector<uint8_t>& payload, Remap remap, size_t piece) {
  const size_t n = runs.all.back().end;
  set_simd("portable");
  const auto plain = decode<Value>(runs, payload, remap, std::max<size_t>(n, 1));
  const bool loaded = !payload.empty() && payload[0] & kLoaded;
  require(!plain.opened || !loaded ||
              values_a_lane(runs.sources.front()->width) << (payload[0] & ~kLoaded) <= n,
          "lanes hold no more values than there are");
  on_every_simd([&] {
    const auto found = decode<Value>(runs, payload, remap, piece);
    require(found.opened == plain.opened, "all open or none");
    require(found.read == plain.read, "all read or none");
    require(found.finished == plain.finished, "all finish or none");
    require(!plain.read || found.values == plain.values, "all read the same values");
    require(!found.read || found.hash == xxh3(reinterpret_cast<const uint8_t*>(found.values.data()),
                                              n * sizeof(Value)),
            "what was eaten on the way is what there is");
  });
}

void run(Input in) {
  const Runs runs = take_runs(in);
  const uint8_t how = in.take<uint8_t>();
  const size_t piece = kMaxLanes * (how % 16 + 1);
  const auto remap = static_cast<Remap>(how / 16 % 3);
  const auto payload = in.rest();
  if (runs.sources.front()->width > 8) run<uint16_t>(runs, payload, remap, piece);
  else run<uint8_t>(runs, payload, remap, piece);
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
