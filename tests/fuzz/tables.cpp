// Tables from any columns: refused, or good for coding, alone and one after the other. Values that a table can
// write come back from both coders, and every instruction set writes the same bytes.
#include "arithmetic.hpp"
#include "input.hpp"

namespace fewbits::fuzz {
namespace {

template <typename Value>
void code_with_rans(const std::vector<RansRun>& runs, const std::vector<Value>& values) {
  bool first = true;
  std::vector<uint8_t> payload;
  on_every_simd([&] {
    std::vector<uint8_t> written;
    require(rans_encode(runs, values.data(), written), "values with rows are encoded");
    require(first || written == payload, "instruction sets write the same bytes");
    payload = written;
    first = false;
    std::vector<Value> found(values.size());
    RansReader<Value> reader(runs);
    require(reader.open(payload.data(), payload.size()) &&
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

// Values that a table can write, chosen by `picks`.
template <typename Value>
void add_values(const RangeTable& table, const std::vector<Value>& picks, size_t count,
                std::vector<Value>& values) {
  std::vector<Value> writable;
  for (uint32_t v = 0; v < table.row_of().size(); ++v)
    if (table.row_of()[v] != kNoRow) writable.push_back(static_cast<Value>(v));
  if (writable.empty()) throw std::invalid_argument("the table can write nothing");
  for (size_t i = 0; i < count; ++i) {
    const size_t pick = picks[i % picks.size()] + i / picks.size() * 7;
    values.push_back(writable[pick % writable.size()]);
  }
}

template <typename Value>
void run(Input in, Runs& runs) {
  // Few values, since many take long; now and then enough for many lanes.
  const size_t most = in.take<uint8_t>() == 0 ? 40'000 : 1024;
  const auto picks = in.column<Value>(in.left() / sizeof(Value));
  if (picks.empty()) return;
  std::vector<Value> values;
  for (size_t r = 0; r < runs.all.size(); ++r) {
    const size_t end = std::min(runs.all[r].end, most);
    add_values(*runs.sources[r], picks, end - values.size(), values);
    if (r == 0) code_arithmetically(*runs.sources[0], values);
    runs.all[r].end = end;
  }
  code_with_rans(runs.all, values);
}

void run(Input in) {
  Runs runs = take_runs(in);
  if (runs.sources.front()->width > 8) run<uint16_t>(in, runs);
  else run<uint8_t>(in, runs);
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
