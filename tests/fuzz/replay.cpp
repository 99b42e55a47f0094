// A main() for compilers without a fuzzer: runs a target on each file of the folders it is given, then on
// changed copies of them, as many as asked for, always the same ones.
//
// Usage: TARGET COPIES FOLDER...
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// One to four changes; half of them near the front, where the fields are.
Bytes changed(Bytes bytes, std::mt19937_64& random) {
  for (auto left = random() % 4 + 1; left > 0 && !bytes.empty(); --left) {
    const size_t reach = random() % 2 ? bytes.size() : std::min<size_t>(bytes.size(), 64);
    const auto at = static_cast<std::ptrdiff_t>(random() % reach);
    switch (random() % 5) {
      case 0: bytes.resize(static_cast<size_t>(at)); break;
      case 1: bytes.insert(bytes.begin() + at, static_cast<uint8_t>(random())); break;
      case 2: bytes.erase(bytes.begin() + at); break;
      case 3: bytes[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1u << random() % 8); break;
      default: bytes[static_cast<size_t>(at)] = static_cast<uint8_t>(random());
    }
  }
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<Bytes> corpus;
  for (int i = 2; i < count; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(arguments[i]))
      corpus.push_back(read(entry.path()));
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s COPIES FOLDER..., with files in the folders\n", arguments[0]);
    return 2;
  }
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  std::mt19937_64 random(0);
  const long copies = std::atol(arguments[1]);
  for (long i = 0; i < copies; ++i) {
    const Bytes bytes = changed(corpus[random() % corpus.size()], random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs and %ld changed copies, none harmful\n", corpus.size(), copies);
}
