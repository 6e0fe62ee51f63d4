#include "core/launch.cuh"
#include "ops/beams.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr int kLanes =
    30;  // lanes of a warp that work in the backward: a multiple of 3, so each keeps its axis

// One thread a coordinate: neighbouring threads write neighbouring columns.
template <class Out>
__global__ void __launch_bounds__(kThreads) beams_kernel(BeamsArgs<float, Out> args) {
  const int64_t stride = 3 * args.points;
  const int64_t total = args.rays * stride;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < total; i += step) {
    const int64_t ray = i / stride, column = i % stride;
    float x[1];
    beam_coordinates<1>(args, ray, column, x);
    encode_coordinates<1>(x, args.frequencies, stride, args.encoded + ray * args.columns + column);
    pad_beam(args, ray, column, stride);
  }
}

__device__ float sum_lanes(float value) {
  for (int offset = kWarp / 2; offset; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// One warp a ray.
__global__ void __launch_bounds__(kThreads) beams_backward_kernel(BeamsBackwardArgs<float> args) {
  constexpr int kWarps = kThreads / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int axis = lane % 3;
  const int64_t stride = 3 * args.points;
  const int64_t width = stride * (2 * args.frequencies + 1);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t ray = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; ray < args.rays;
       ray += step) {
    float v_origin = 0, v_direction = 0;
    for (int64_t column = lane; lane < kLanes && column < stride; column += kLanes) {
      float x[1], v_x[1];
      beam_coordinates<1>(args, ray, column, x);
      encode_coordinates_backward<1>(x, args.frequencies, stride, args.v_encoded + ray * width + column, v_x);
      const float v_point = v_x[0] * args.scale;
      v_origin += v_point;
      v_direction += v_point * beam_distance(args, column / 3);
    }
    for (int a = 0; a < 3; ++a) {
      const bool mine = lane < kLanes && axis == a;
      const float origin = sum_lanes(mine ? v_origin : 0.0f);
      const float direction = sum_lanes(mine ? v_direction : 0.0f);
      if (lane == 0) {
        args.v_origins[3 * ray + a] = origin;
        args.v_directions[3 * ray + a] = direction;
      }
    }
  }
}
}  // namespace

void beams_cuda(const BeamsArgs<float>& args, const Exec& exec) {
  launch("beams", beams_kernel<float>, args, args.rays * 3 * args.points, kThreads, kThreads, exec);
}

void beams_half_cuda(const BeamsArgs<float, Half>& args, const Exec& exec) {
  launch("beams_half", beams_kernel<Half>, args, args.rays * 3 * args.points, kThreads, kThreads, exec);
}

void beams_backward_cuda(const BeamsBackwardArgs<float>& args, const Exec& exec) {
  launch("beams_backward", beams_backward_kernel, args, args.rays, kThreads / kWarp, kThreads, exec);
}

}  // namespace nldf
