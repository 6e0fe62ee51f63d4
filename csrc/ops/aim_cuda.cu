#include "core/launch.cuh"
#include "ops/aim.h"

namespace nldf {

namespace {
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// Two neighbouring rays a thread, whose bytes of `inside` are then written by one.
__global__ void __launch_bounds__(kThreads) aim_kernel(const AimArgs<float> args) {
  const int64_t step = 2 * static_cast<int64_t>(gridDim.x) * kThreads, all = args.frames * args.rays;
  int64_t first = 2 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  for (; first < all; first += step) {
    for (int64_t i = first; i < min(first + 2, all); ++i) Aimed<float>(args, i / args.rays, i).store(args, i);
  }
}

// A block a frame, whose sums are always added up in the same order.
__global__ void __launch_bounds__(kThreads) aim_backward_kernel(const AimArgs<float> args) {
  using Sums = float[6];
  NLDF_SHARED(Sums, shared, kWarps);
  for (int64_t frame = blockIdx.x; frame < args.frames; frame += gridDim.x) {
    float sums[6] = {};
    for (int64_t i = frame * args.rays + threadIdx.x; i < (frame + 1) * args.rays; i += kThreads)
      Aimed<float>(args, frame, i).back(args.v_turned + 3 * i, sums);
#pragma unroll
    for (int k = 0; k < 6; ++k) {
      for (int offset = 16; offset; offset /= 2) sums[k] += __shfl_xor_sync(~0u, sums[k], offset);
      if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32][k] = sums[k];
    }
    __syncthreads();  // every warp's are there
    if (threadIdx.x < 6) {
      float sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += shared[w][threadIdx.x];
      args.v_turns[6 * frame + threadIdx.x] = sum;
    }
    __syncthreads();  // and have been read
  }
}

__global__ void __launch_bounds__(kThreads) aim_lines_kernel(const AimLinesArgs<float> args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < args.rays; i += step)
    planes_line(args.origins + 3 * i, args.directions + 3 * i, args.box, args.lines + 4 * i,
                args.lines + 4 * i + 2);
}

__global__ void __launch_bounds__(kThreads) aim_lines_backward_kernel(const AimLinesArgs<float> args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < args.rays; i += step)
    aim_line_back(args, i);
}
}  // namespace

void aim_cuda(const AimArgs<float>& args, const Exec& exec) {
  launch("aim", aim_kernel, args, args.frames * args.rays, 2 * kThreads, kThreads, exec);
}
void aim_backward_cuda(const AimArgs<float>& args, const Exec& exec) {
  launch("aim_backward", aim_backward_kernel, args, args.frames, 1, kThreads, exec);
}
void aim_lines_cuda(const AimLinesArgs<float>& args, const Exec& exec) {
  launch("aim_lines", aim_lines_kernel, args, args.rays, kThreads, kThreads, exec);
}
void aim_lines_backward_cuda(const AimLinesArgs<float>& args, const Exec& exec) {
  launch("aim_lines_backward", aim_lines_backward_kernel, args, args.rays, kThreads, kThreads, exec);
}

}  // namespace nldf
