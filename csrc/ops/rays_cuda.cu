#include "core/launch.cuh"
#include "ops/rays.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
constexpr int kWarp = 32;

// One thread a pixel.
__global__ void __launch_bounds__(kThreads) rays_kernel(RaysArgs<float> args) {
  const int64_t total = args.frames * args.per_frame;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; p < total; p += step) {
    const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, p / args.per_frame);
    make_ray(camera, args.pixels + 2 * p, args.origins + 3 * p, args.directions + 3 * p);
  }
}

// One thread block a block of pixels; its 16 sums are reduced through shuffles, then shared memory.
__global__ void __launch_bounds__(kThreads) rays_backward_kernel(RaysBackwardArgs<float> args) {
  using Sums = float[kRayGradients];
  NLDF_SHARED(Sums, shared, kThreads / kWarp);
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  for (int64_t piece = blockIdx.x; piece < args.frames * blocks; piece += gridDim.x) {
    const int64_t frame = piece / blocks;
    const int64_t begin = piece % blocks * args.block;
    const int64_t end = min(args.per_frame, begin + args.block);
    const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, frame);
    float sums[kRayGradients] = {};
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const int64_t p = frame * args.per_frame + i;
      make_ray_backward(camera, args.pixels + 2 * p, args.v_origins + 3 * p, args.v_directions + 3 * p, sums);
    }
#pragma unroll
    for (int i = 0; i < kRayGradients; ++i) {
      for (int offset = kWarp / 2; offset; offset /= 2) sums[i] += __shfl_down_sync(~0u, sums[i], offset);
      if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp][i] = sums[i];
    }
    __syncthreads();
    if (threadIdx.x < kRayGradients) {
      float sum = 0;
      for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += shared[warp][threadIdx.x];
      args.partial[piece * kRayGradients + threadIdx.x] = sum;
    }
    __syncthreads();  // the next piece writes `shared` again
  }
}
}  // namespace

void rays_cuda(const RaysArgs<float>& args, const Exec& exec) {
  launch("rays", rays_kernel, args, args.frames * args.per_frame, kThreads, kThreads, exec);
}

void rays_backward_cuda(const RaysBackwardArgs<float>& args, const Exec& exec) {
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  launch("rays_backward", rays_backward_kernel, args, args.frames * blocks, 1, kThreads, exec);
}

}  // namespace nldf
