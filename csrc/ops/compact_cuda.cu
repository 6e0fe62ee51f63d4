#include "core/launch.cuh"
#include "cuda/ptx.cuh"
#include "ops/compact.h"

namespace nldf {

namespace {
constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAll = 0xffffffffu;

__device__ int sum_lanes(int value) {
#pragma unroll
  for (int offset = kWarp / 2; offset; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  return value;
}

// Sum over a block; every thread of it gets the result. `shared` holds one int a warp.
__device__ int sum_block(int value, int* shared) {
  value = sum_lanes(value);
  __syncthreads();  // a former sum may still be read
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  int total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += shared[warp];
  return total;
}

__global__ void __launch_bounds__(kThreads) compact_count_kernel(CompactArgs args) {
  NLDF_SHARED(int, shared, kWarps);
  const int64_t tiles = compact_tiles(args);
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    int chosen = 0;
    for (int64_t offset = threadIdx.x; offset < kCompactTile; offset += kThreads) {
      const int64_t i = tile * kCompactTile + offset;
      chosen += i < args.rays && args.mask[i] != 0;
    }
    const int total = sum_block(chosen, shared);
    if (threadIdx.x == 0) args.tiles[tile] = total;
  }
}

// Each block adds up the tiles before its own by itself: a few hundred numbers from the cache, and no block
// has to wait for another.
__global__ void __launch_bounds__(kThreads) compact_order_kernel(CompactArgs args) {
  NLDF_SHARED(int, shared, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t tiles = compact_tiles(args);
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    int sum = 0;
    for (int64_t other = threadIdx.x; other < tile; other += kThreads) sum += args.tiles[other];
    int64_t base = sum_block(sum, shared);
    for (int64_t offset = 0; offset < kCompactTile; offset += kThreads) {
      const int64_t i = tile * kCompactTile + offset + threadIdx.x;
      const bool chosen = i < args.rays && args.mask[i] != 0;
      const unsigned votes = __ballot_sync(kAll, chosen);
      __syncthreads();  // the former round's counts may still be read
      if (lane == 0) shared[warp] = __popc(votes);
      __syncthreads();
      int64_t before = base + __popc(votes & ((1u << lane) - 1));
      for (int other = 0; other < kWarps; ++other) {
        if (other < warp) before += shared[other];
        base += shared[other];
      }
      if (i < args.rays) args.order[compact_place(args, i, before, chosen)] = static_cast<int32_t>(i);
    }
    if (tile == tiles - 1 && threadIdx.x == 0) *args.count = static_cast<int32_t>(base);
  }
}

__global__ void __launch_bounds__(kThreads) compact_over_kernel(CompactOverArgs<float> args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; n < args.rays; n += step) {
    compact_over_ray(args, n);
  }
}
}  // namespace

void compact_cuda(const CompactArgs& args, const Exec& exec) {
  const int64_t tiles = compact_tiles(args);
  launch("compact", compact_count_kernel, args, tiles, 1, kThreads, exec);
  launch("compact", compact_order_kernel, args, tiles, 1, kThreads, exec);
}

void compact_over_cuda(const CompactOverArgs<float>& args, const Exec& exec) {
  launch("compact_over", compact_over_kernel, args, args.rays, kThreads, kThreads, exec);
}

}  // namespace nldf
