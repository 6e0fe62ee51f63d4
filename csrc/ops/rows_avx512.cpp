// Operations on rows of float32 in vectors of 64 bytes, compiled for AVX-512.
#include "ops/rows_lanes.h"

namespace nldf {

const RowsKernels kRowsAvx512 = Rows<Lanes<float, 64, 8, 3>>::kernels();

}  // namespace nldf
