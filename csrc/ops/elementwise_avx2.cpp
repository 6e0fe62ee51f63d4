// Rays, beams, segments, landmarks, references and Adam in vectors of 32 bytes, compiled for AVX2, FMA and
// F16C.
#include "ops/elementwise_lanes.h"

namespace nldf {

const ElementwiseKernels kElementwiseAvx2 = elementwise_lanes<32>();

}  // namespace nldf
