// Slot attention on the CPU: which instruction set, and groups of points to threads. The arithmetic is in
// slots_lanes.h.
#include "core/isa.h"
#include "core/scratch.h"
#include "ops/slots_kernels.h"

namespace nldf {

namespace {

const SlotsKernels& slots_kernels() {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kSlotsAvx512;
  if (isa == Isa::avx2) return kSlotsAvx2;
#endif
  return kSlotsPortable;
}

}  // namespace

void slots_cpu(const SlotsArgs& args, const Exec& exec) {
  const SlotsKernels& isa = slots_kernels();
  const int64_t numbers = isa.scratch(args);
  parallel_for(args.count, isa.group, exec.threads, [&](int64_t begin, int64_t end) {
    isa.points(args, begin, end - begin, scratch<float>(numbers));
  });
}

}  // namespace nldf
