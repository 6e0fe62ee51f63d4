// Operations on rows of float32 in vectors of 16 bytes, which every target has.
#include "ops/rows_lanes.h"

namespace nldf {

const RowsKernels kRowsPortable = Rows<Lanes<float, 16, 4, 3>>::kernels();

}  // namespace nldf
