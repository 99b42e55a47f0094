// Tables from any columns: refused, or good for coding. Values that a table can write come back from both
// coders, and every instruction set writes the same bytes.
#include "arithmetic.hpp"
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

template <typename Value>
void code_with_rans(const RansTable& table, const std::vector<Value>& values) {
  bool first = true;
  std::vector<uint8_t> payload;
  on_every_simd([&] {
    std::vector<uint8_t> written;
    require(rans_encode(table, values.data(), values.size(), written), "values with rows are encoded");
    require(first || written == payload, "instruction sets write the same bytes");
    payload = written;
    first = false;
    std::vector<Value> found(values.size());
    RansReader<Value> reader(table);
    require(reader.open(payload.data(), payload.size(), found.size()) &&
                reader.read(found.data(), found.size()) && reader.finished(),
            "what rANS encodes it decodes");
    require(found == values, "rANS gives back the values");
  });
}

template <typename Value>
void code_arithmetically(const RangeTable& table, const std::vector<Value>& values) {
  std::vector<uint8_t> payload;
  if (!arithmetic_encode(values.data(), values.size(), table, payload)) return;
  std::vector<Value> found(values.size());
  require(arithmetic_decode(payload.data(), payload.size(), table, found.data(), found.size()),
          "what the arithmetic coder encodes it decodes");
  require(found == values, "the arithmetic coder gives back the values");
}

template <typename Value>
void run(Input in, const RangeTable& source, int verbatim_bits) {
  std::vector<Value> writable, values;
  for (uint32_t v = 0; v < source.row_of().size(); ++v)
    if (source.row_of()[v] != kNoRow) writable.push_back(static_cast<Value>(v));
  if (writable.empty()) return;
  // Few values, since many take long; now and then enough for many lanes.
  const bool many = in.take<uint8_t>() == 0;
  const uint32_t n = many ? 40'000 : in.take<uint16_t>() % 1024;
  const auto picks = in.column<Value>(in.left() / sizeof(Value));
  for (uint32_t i = 0; !picks.empty() && i < n; ++i) {
    const uint32_t pick = picks[i % picks.size()] + i / picks.size() * 7;
    values.push_back(writable[pick % writable.size()]);
  }
  code_arithmetically(source, values);
  code_with_rans(RansTable(source, verbatim_bits), values);
}

void run(Input in) {
  const auto table = take_table(in);
  const int verbatim_bits = in.take<uint8_t>();
  if (table->width > 8) run<uint16_t>(in, *table, verbatim_bits);
  else run<uint8_t>(in, *table, verbatim_bits);
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
