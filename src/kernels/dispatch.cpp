#include "dispatch.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace fewbits {

namespace {

constexpr std::array<const char*, 3> kNames = {"portable", "avx2", "avx512"};

Simd widest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
      __builtin_cpu_supports("bmi2"))
    return Simd::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return Simd::avx2;
#endif
  return Simd::portable;
}

Simd initial() {
  const char* asked = std::getenv("FEWBITS_SIMD");
  for (size_t i = 0; asked && i < kNames.size(); ++i)
    if (std::string(asked) == kNames[i]) return std::min(widest(), static_cast<Simd>(i));
  return widest();
}

std::atomic<Simd>& current() {
  static std::atomic<Simd> value{initial()};
  return value;
}

}  // namespace

Simd simd() { return current().load(std::memory_order_relaxed); }

std::vector<std::string> available_simd() {
  return {kNames.begin(), kNames.begin() + static_cast<int>(widest()) + 1};
}

std::string simd_name() { return kNames[static_cast<size_t>(simd())]; }

void set_simd(const std::string& name) {
  const auto names = available_simd();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end())
    throw std::invalid_argument("instruction set '" + name + "' is not available here");
  current().store(static_cast<Simd>(found - names.begin()));
}

}  // namespace fewbits
