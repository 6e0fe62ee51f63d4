// Rays, beams, segments, landmarks, references and Adam in vectors of 16 bytes, which every target has.
#include "ops/elementwise_lanes.h"

namespace nldf {

const ElementwiseKernels kElementwisePortable = elementwise_lanes<16>();

}  // namespace nldf
