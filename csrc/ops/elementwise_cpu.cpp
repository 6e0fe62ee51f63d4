// Which instruction set the operations on rays run with; their loops are in *_cpu.cpp.
#include "ops/elementwise_kernels.h"

#include "core/isa.h"

namespace nldf {

const ElementwiseKernels& elementwise_kernels() {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kElementwiseAvx512;
  if (isa == Isa::avx2) return kElementwiseAvx2;
#endif
  return kElementwisePortable;
}

}  // namespace nldf
