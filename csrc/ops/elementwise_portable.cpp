// Rays, beams, segments and Adam in vectors of 16 bytes, which every target has.
#include "ops/adam_lanes.h"
#include "ops/beams_lanes.h"
#include "ops/elementwise_kernels.h"
#include "ops/rays_lanes.h"
#include "ops/segments_lanes.h"

namespace nldf {
namespace {

using Single = Lanes<float, 16, 8, 3>;

}  // namespace

const ElementwiseKernels kElementwisePortable = {rays_lanes<float>,
                                                 rays_backward_lanes<float, Single::lanes>,
                                                 beams_lanes<Single, float>,
                                                 beams_lanes<Single, Half>,
                                                 beams_backward_lanes<Single>,
                                                 segments_lanes<Single>,
                                                 segments_backward_lanes<Single>,
                                                 adam_lanes};

}  // namespace nldf
