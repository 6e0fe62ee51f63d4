// Asks the processor what it has, and the environment what is wanted.
#include "core/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(NLDF_X86) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// Linux keeps the tiles' registers for those processes alone that ask for it.
bool ask_for_amx() {
#if defined(NLDF_X86) && defined(__linux__)
  constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has(Isa::avx512) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTiles) && (d & kBytes) &&
         syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
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

bool cpu_has_amx() {
  const char* const given = std::getenv("NLDF_CPU_ISA");
  if (given && *given) return false;
  static const bool allowed = ask_for_amx();
  return allowed;
}

}  // namespace nldf
