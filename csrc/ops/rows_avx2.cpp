// Operations on rows of float32 in vectors of 32 bytes, compiled for AVX2 and FMA.
#include "ops/rows_lanes.h"

namespace nldf {

const RowsKernels kRowsAvx2 = Rows<Lanes<float, 32, 4, 3>>::kernels();

}  // namespace nldf
