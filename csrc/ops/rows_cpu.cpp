// Which instruction set the operations on rows of float32 run with.
#include "core/isa.h"
#include "ops/rows_kernels.h"

namespace nldf {

const RowsKernels& rows_kernels() {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kRowsAvx512;
  if (isa == Isa::avx2) return kRowsAvx2;
#endif
  return kRowsPortable;
}

}  // namespace nldf
