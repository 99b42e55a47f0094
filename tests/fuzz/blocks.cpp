// Whole frames: any plan, any block index, any payload. Every instruction set must stay within its buffers
// and come to the same verdict and the same bytes.
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

// Half of all inputs have lengths that fit the payload, without which nothing is decoded.
void fit_last_length(std::vector<uint32_t>& lengths, size_t payload_bytes) {
  if (lengths.empty()) return;
  size_t others = 0;
  for (size_t i = 0; i + 1 < lengths.size(); ++i) others += lengths[i];
  if (others <= payload_bytes) lengths.back() = static_cast<uint32_t>(payload_bytes - others);
}

void run(Input in) {
  const Plan plan = take_plan(in);
  const uint8_t flags = in.take<uint8_t>();
  const bool fit = flags & 1, misfit = flags & 2, verify = flags & 4;
  const int threads = flags & 8 ? 2 : 1;
  const size_t element = static_cast<size_t>(plan.element_bytes);
  const size_t bytes = in.take<uint32_t>() % (1u << 18) / element * element;
  const size_t blocks = plan.blocks(bytes) + misfit;
  if (blocks > in.left()) return;  // the index of a frame is in the file, too
  const auto modes = in.column<uint8_t>(blocks * plan.planes.size());
  auto lengths = in.column<uint32_t>(modes.size());
  const auto checksums = in.column<uint64_t>(blocks);
  const auto payload = in.rest();
  if (fit) fit_last_length(lengths, payload.size());

  bool first = true;
  int64_t verdict = 0;
  std::unique_ptr<uint8_t[]> wanted(new uint8_t[bytes]);
  on_every_simd([&] {
    std::unique_ptr<uint8_t[]> out(new uint8_t[bytes]());
    const int64_t damaged =
        unpack_blocks(plan, payload.data(), payload.size(), modes.data(), lengths.data(),
                      checksums.data(), blocks, out.get(), bytes, verify, threads);
    require(damaged >= kAllWell && damaged <= static_cast<int64_t>(blocks), "a verdict names a block");
    require(!misfit || damaged == static_cast<int64_t>(blocks), "an index of another size is refused");
    require(first || damaged == verdict, "instruction sets agree on the verdict");
    require(first || damaged != kAllWell || std::memcmp(out.get(), wanted.get(), bytes) == 0,
            "instruction sets agree on the bytes");
    if (first) wanted = std::move(out);
    verdict = damaged;
    first = false;
  });
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
