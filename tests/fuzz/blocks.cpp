// Whole frames: any plan in any arrangement, with any index and payload, decoded into any window, and any
// tensor packed and unpacked. Every instruction set must stay within its buffers and come to the same verdict
// and the same bytes.
#include "input.hpp"
#include "products.hpp"

namespace fewbits::fuzz {
namespace {

enum Flag : uint8_t { kFit = 1, kMisfit = 2, kVerify = 4, kTwoThreads = 8, kPartly = 16, kPack = 32 };

constexpr size_t kMostBytes = size_t{1} << 17;

struct Case {
  const Plan plan;
  const Order order;
  const uint8_t flags;

  const Arrangement& arrangement() const { return order.arrangement; }
  size_t element() const { return static_cast<size_t>(plan.element_bytes); }
  size_t bytes() const { return arrangement().elements() * element(); }
  int threads() const { return flags & kTwoThreads ? 2 : 1; }
};

using Elements = std::unique_ptr<uint8_t[]>;

// The window's elements; zero where no block holds them.
int64_t unpack(const Case& frame, const Blocks& blocks, size_t first, size_t last, Elements& out) {
  out.reset(new uint8_t[(last - first) * frame.element()]());
  return unpack_blocks(frame.plan, frame.arrangement(), blocks, {first, last, out.get()},
                       frame.flags & kVerify, frame.threads());
}

// Half of all inputs have lengths that fit the payload, without which nothing is decoded.
void fit_last_length(std::vector<uint32_t>& lengths, size_t payload_bytes) {
  if (lengths.empty()) return;
  size_t others = 0;
  for (size_t i = 0; i + 1 < lengths.size(); ++i) others += lengths[i];
  if (others <= payload_bytes) lengths.back() = static_cast<uint32_t>(payload_bytes - others);
}

// Products of vectors of one factor with a matrix of eight rows, or one, made of all blocks; nothing where it is no
// matrix of numbers.
int64_t multiply(const Case& frame, const Blocks& blocks, size_t count, float factor,
                 std::vector<float>& out) {
  const size_t elements = frame.arrangement().elements(), rows = elements % 8 ? 1 : 8;
  const Number numbers[] = {Number::int8, Number::bfloat16, Number::bfloat16, Number::float32};
  const std::vector<float> factors(elements / rows * count, factor);
  out.assign(count * rows, 0.0f);
  const Vectors vectors{numbers[std::min<size_t>(frame.element() - 1, 3)], elements / rows, count,
                        factors.data(), out.data(), rows};
  return multiply_blocks(frame.plan, frame.arrangement(), blocks, vectors, frame.flags & kVerify,
                         frame.threads());
}

void decode(const Case& frame, Input& in) {
  const size_t elements = frame.arrangement().elements(), all_blocks = frame.arrangement().blocks();
  size_t first = 0, last = elements, first_block = 0, blocks = all_blocks;
  if (frame.flags & kPartly) {
    first = in.take<uint32_t>() % (elements + 1);
    last = first + in.take<uint32_t>() % (elements - first + 1);
    first_block = in.take<uint16_t>() % (all_blocks + 1);
    blocks = in.take<uint16_t>() % (all_blocks - first_block + 1);
  }
  const bool misfit = frame.flags & kMisfit;
  if (misfit) blocks = all_blocks - first_block + 1;
  if (blocks > in.left()) return;  // the index of a frame is in the file, too
  const auto modes = in.column<uint8_t>(blocks * frame.plan.planes.size());
  auto lengths = in.column<uint32_t>(modes.size());
  const auto checksums = in.column<uint64_t>(blocks);
  const auto payload = in.rest();
  if (frame.flags & kFit) fit_last_length(lengths, payload.size());
  const Blocks given{first_block,      blocks,         modes.data(),  lengths.data(),
                     checksums.data(), payload.data(), payload.size()};

  // What any window must be a part of.
  set_simd("portable");
  Elements whole, part;
  const int64_t verdict = unpack(frame, given, 0, elements, whole);
  require(verdict >= kAllWell && verdict <= static_cast<int64_t>(blocks), "a verdict names a block");
  require(!misfit || verdict == static_cast<int64_t>(blocks), "an index of another size is refused");
  on_every_simd([&] {
    require(unpack(frame, given, first, last, part) == verdict, "all agree on the verdict");
    require(verdict != kAllWell || std::memcmp(part.get(), whole.get() + first * frame.element(),
                                               (last - first) * frame.element()) == 0,
            "all agree on the bytes");
  });
  if (first_block || misfit || !elements || frame.element() > 4) return;
  // No bfloat16, the products of which may round in the processor's own way; and one.
  constexpr float longer = 1.0f + 0x1p-12f, shorter = 1.0f;
  const size_t count = 1 + elements % 6;
  std::vector<float> wanted, found;
  set_simd("portable");
  require(multiply(frame, given, count, longer, wanted) == verdict, "products come to the same verdict");
  on_every_simd([&] {
    require(multiply(frame, given, count, shorter, found) == verdict, "all agree on the verdict");
    require(multiply(frame, given, count, longer, found) == verdict, "all agree on the verdict");
    for (size_t i = 0; i < wanted.size() && verdict == kAllWell; ++i)
      require(found[i] == wanted[i] || (found[i] != found[i] && wanted[i] != wanted[i]),
              "all agree on the products");
  });
}

struct Frame {
  Packed index;
  std::vector<uint8_t> payload;
};

Frame pack(const Case& frame, const std::vector<uint8_t>& tensor) {
  Frame packed;
  packed.payload.resize(tensor.size());
  packed.index = pack_blocks(frame.plan, frame.arrangement(), tensor.data(), frame.threads(),
                             packed.payload.data());
  packed.payload.resize(packed.index.payload_bytes);
  packed.payload.shrink_to_fit();
  return packed;
}

// Bytes so far apart that all but a few elements may be equal, which sparse blocks are for.
std::vector<uint8_t> take_tensor(const Case& frame, Input& in) {
  const size_t stride = size_t{in.take<uint16_t>()} % 2048 + 1;
  std::vector<uint8_t> tensor(frame.bytes(), in.take<uint8_t>());
  for (size_t at = 0; at < tensor.size() && in.left(); at += stride) tensor[at] = in.take<uint8_t>();
  tensor.shrink_to_fit();
  return tensor;
}

void round_trip(const Case& frame, Input& in) {
  const auto tensor = take_tensor(frame, in);
  set_simd("portable");
  const Frame wanted = pack(frame, tensor);
  on_every_simd([&] {
    const Frame found = pack(frame, tensor);
    require(found.index.modes == wanted.index.modes && found.index.lengths == wanted.index.lengths &&
                found.index.checksums == wanted.index.checksums && found.payload == wanted.payload,
            "all write the same bytes");
    const Blocks all{0, frame.arrangement().blocks(), found.index.modes.data(),
                     found.index.lengths.data(), found.index.checksums.data(), found.payload.data(),
                     found.payload.size()};
    Elements out;
    require(unpack(frame, all, 0, frame.arrangement().elements(), out) == kAllWell,
            "what was packed is well");
    require(std::equal(tensor.begin(), tensor.end(), out.get()), "what was packed comes back");
  });
}

void run(Input in) {
  Plan plan = take_plan(in);
  Order order = take_order(in, kMostBytes / static_cast<size_t>(plan.element_bytes));
  const Case frame{std::move(plan), std::move(order), in.take<uint8_t>()};
  frame.flags & kPack ? round_trip(frame, in) : decode(frame, in);
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
