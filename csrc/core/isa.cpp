// Asks the processor what it has, and the environment what is wanted.
#include "core/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace nldf {

namespace {

constexpr Isa kBestFirst[] = {Isa::avx512, Isa::avx2, Isa::portable};

bool has([[maybe_unused]] Isa isa) {
#ifdef NLDF_X86
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
  return isa == Isa::portable;
}

Isa best() {
  for (const Isa isa : kBestFirst)
    if (has(isa)) return isa;
  return Isa::portable;
}

}  // namespace

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "portable";
}

Isa cpu_isa() {
  static const Isa chosen = best();
  const char* const given = std::getenv("NLDF_CPU_ISA");
  const std::string wanted = given ? given : "";
  if (wanted.empty()) return chosen;
  for (const Isa isa : kBestFirst)
    if (wanted == isa_name(isa) && has(isa)) return isa;
  throw std::invalid_argument("NLDF_CPU_ISA is '" + wanted +
                              "': expected portable, avx2 or avx512, and one that this processor has");
}

}  // namespace nldf
