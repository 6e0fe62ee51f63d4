// Rays, beams, segments, landmarks, references and Adam in vectors of 64 bytes, compiled for AVX-512 F, BW,
// DQ and VL.
#include "ops/elementwise_lanes.h"

namespace nldf {

const ElementwiseKernels kElementwiseAvx512 = elementwise_lanes<64>();

}  // namespace nldf
