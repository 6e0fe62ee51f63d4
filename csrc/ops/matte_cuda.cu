#include "core/launch.cuh"
#include "ops/matte.h"

namespace nldf {

namespace {
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
static_assert(kThreads == kMattePiece, "a block takes a piece");

// The block's sums of three numbers each thread has, in thread 0. `shared` is free again behind it.
__device__ void add_up(float* sums, float (*shared)[3]) {
  for (int k = 0; k < 3; ++k) {
    for (int offset = 16; offset; offset /= 2) sums[k] += __shfl_xor_sync(~0u, sums[k], offset);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32][k] = sums[k];
  }
  __syncthreads();  // every warp's are there
  for (int k = 0; threadIdx.x == 0 && k < 3; ++k) {
    sums[k] = 0;
    for (int w = 0; w < kWarps; ++w) sums[k] += shared[w][k];
  }
  __syncthreads();  // and have been read
}

__global__ void __launch_bounds__(kThreads) matte_kernel(const MatteArgs<float> args) {
  using Sums = float[3];
  NLDF_SHARED(Sums, shared, kWarps);
  const int64_t pieces = matte_pieces(args.rays);
  for (int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const int64_t i = piece * kMattePiece + threadIdx.x;
    float sums[3] = {};
    if (i < args.rays) {
      const MatteRay<float> ray(args, i);
      for (int c = 0; c < 3; ++c) args.error[3 * i + c] = ray.error[c];
      ray.add(args, sums);
    }
    add_up(sums, shared);
    for (int k = 0; threadIdx.x == 0 && k < 3; ++k) args.partial[3 * piece + k] = sums[k];
  }
}

// One block: each thread adds every 256th piece, so that the order is always the same.
__global__ void __launch_bounds__(kThreads) matte_figures_kernel(const MatteArgs<float> args) {
  using Sums = float[3];
  NLDF_SHARED(Sums, shared, kWarps);
  float sums[3] = {};
  for (int64_t piece = threadIdx.x; piece < matte_pieces(args.rays); piece += kThreads)
    for (int k = 0; k < 3; ++k) sums[k] += args.partial[3 * piece + k];
  add_up(sums, shared);
  if (threadIdx.x == 0) matte_figures(args, sums, args.figures);
}

__global__ void __launch_bounds__(kThreads) matte_backward_kernel(const MatteArgs<float> args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const float v_total = args.v_total ? *args.v_total : 0.0f;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < args.rays; i += step)
    MatteRay<float>(args, i).back(args, i, v_total);
}
}  // namespace

void matte_cuda(const MatteArgs<float>& args, const Exec& exec) {
  launch("matte", matte_kernel, args, args.rays, kThreads, kThreads, exec);
  launch("matte_figures", matte_figures_kernel, args, 1, 1, kThreads, exec);
}

void matte_backward_cuda(const MatteArgs<float>& args, const Exec& exec) {
  launch("matte_backward", matte_backward_kernel, args, args.rays, kThreads, kThreads, exec);
}

}  // namespace nldf
