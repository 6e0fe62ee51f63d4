// Rays, beams, segments and Adam in vectors of 32 bytes, compiled for AVX2, FMA and F16C.
#include "ops/adam_lanes.h"
#include "ops/beams_lanes.h"
#include "ops/elementwise_kernels.h"
#include "ops/rays_lanes.h"
#include "ops/segments_lanes.h"

namespace nldf {
namespace {

using Single = Lanes<float, 32, 8, 3>;

}  // namespace

const ElementwiseKernels kElementwiseAvx2 = {rays_lanes<float>,
                                             rays_backward_lanes<float, Single::lanes>,
                                             beams_lanes<Single, float>,
                                             beams_lanes<Single, Half>,
                                             beams_backward_lanes<Single>,
                                             segments_lanes<Single>,
                                             segments_backward_lanes<Single>,
                                             adam_lanes};

}  // namespace nldf
