// Which instruction set the CPU kernels run with: every source of theirs is compiled for several.
#pragma once

namespace nldf {

enum class Isa { portable, avx2, avx512 };

// The best that this processor has, or the one that the environment variable NLDF_CPU_ISA names. Throws
// std::invalid_argument where it names one that isn't there.
Isa cpu_isa();

// Whether the processor has AMX's tiles of 8-bit integers and the system lets this process use them. Not
// where NLDF_CPU_ISA names an instruction set: avx512 is without them.
bool cpu_has_amx();

// The name as NLDF_CPU_ISA takes it: "portable", "avx2" or "avx512".
const char* isa_name(Isa isa);

}  // namespace nldf
