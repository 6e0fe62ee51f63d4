// Which instruction set the operations on rays run with; their loops are in *_cpu.cpp.
#include "elementwise_kernels.h"

#include <string>

#include "resmlp.h"

namespace nldf {

const ElementwiseKernels& elementwise_kernels() {
#ifdef NLDF_X86
  const std::string isa = resmlp_isa();
  if (isa == kElementwiseAvx512.name) return kElementwiseAvx512;
  if (isa == kElementwiseAvx2.name) return kElementwiseAvx2;
#endif
  return kElementwisePortable;
}

}  // namespace nldf
