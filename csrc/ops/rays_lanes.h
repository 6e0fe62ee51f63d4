// Rays in vectors of pixels: rays.h's formulae, a pixel a lane.
#pragma once

#include "ops/rays.h"

namespace nldf {
namespace {

template <class T>
void rays_lanes(const RaysArgs<T>& args, int64_t frame, int64_t begin, int64_t end) {
  const RayCamera<T> camera = load_camera(args.pose, args.intrinsics, frame);
  const T* const pixels = args.pixels;
  T *const origins = args.origins, *const directions = args.directions;
  NLDF_LANES
  for (int64_t p = begin; p < end; ++p) make_ray(camera, pixels + 2 * p, origins + 3 * p, directions + 3 * p);
}

// A block's sums: each lane's in T over the block, then the lanes' in double.
template <class T, int N>
void rays_backward_lanes(const RaysBackwardArgs<T>& args, int64_t frame, int64_t begin, int64_t end,
                         double sums[kRayGradients]) {
  const RayCamera<T> camera = load_camera(args.pose, args.intrinsics, frame);
  T lanes[kRayGradients][N] = {};
  int64_t p = begin;
  for (; p + N <= end; p += N) {
    const T* const pixels = args.pixels + 2 * p;
    const T *const v_origins = args.v_origins + 3 * p, *const v_directions = args.v_directions + 3 * p;
    NLDF_LANES
    for (int i = 0; i < N; ++i)
      make_ray_backward(camera, pixels + 2 * i, v_origins + 3 * i, v_directions + 3 * i, lanes[0] + i, N);
  }
  for (int j = 0; j < kRayGradients; ++j)
    for (int i = 0; i < N; ++i) sums[j] += static_cast<double>(lanes[j][i]);
  for (; p < end; ++p)
    make_ray_backward(camera, args.pixels + 2 * p, args.v_origins + 3 * p, args.v_directions + 3 * p, sums);
}

}  // namespace
}  // namespace nldf
