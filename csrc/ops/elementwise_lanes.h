// The operations that hold no network, in vectors of `Bytes` bytes; each file that is compiled for an
// instruction set makes its own table of them.
#pragma once

#include "ops/adam_lanes.h"
#include "ops/beams_lanes.h"
#include "ops/elementwise_kernels.h"
#include "ops/landmarks_lanes.h"
#include "ops/rays_lanes.h"
#include "ops/references_lanes.h"
#include "ops/segments_lanes.h"

namespace nldf {
namespace {

template <int Bytes>
constexpr ElementwiseKernels elementwise_lanes() {
  using Single = Lanes<float, Bytes, 8, 3>;
  return {rays_lanes<float>,
          rays_backward_lanes<float, Single::lanes>,
          beams_lanes<Single, float>,
          beams_lanes<Single, Half>,
          beams_backward_lanes<Single>,
          segments_lanes<Single>,
          segments_backward_lanes<Single>,
          landmarks_lanes<Single>,
          landmarks_backward_lanes<Single>,
          references_lanes<float>,
          references_places_lanes<Single>,
          references_maps_lanes<float>,
          adam_lanes};
}

}  // namespace
}  // namespace nldf
