// A residual block with mma.sync: 64 rows and 4 warps a block, weights in chunks of 32 inputs through two
// stages of cp.async. Rows of shared memory are 16 bytes longer than their content, so that ldmatrix meets no
// bank twice.
#include "core/launch.cuh"
#include "core/shared.cuh"
#include "layers.h"

namespace nldf {

namespace {
using namespace ptx;

constexpr int kWidth = 64, kRows = 64, kThreads = 128, kChunk = 32;
constexpr int kPitch = kWidth + 8, kChunkPitch = kChunk + 8;
constexpr int kTile = kRows * kPitch, kStage = kWidth * kChunkPitch;  // in halves

struct Layout {
  SharedPlan plan;
  size_t x = plan.add(kTile * sizeof(__half));
  size_t hidden = plan.add(kTile * sizeof(__half));
  size_t stages = plan.add(2 * kStage * sizeof(__half));
};

__device__ void load_chunk(__half* stage, const __half* w, int first) {
  for (int i = threadIdx.x; i < kWidth * kChunk / 8; i += kThreads) {
    const int row = i / (kChunk / 8), column = i % (kChunk / 8) * 8;
    cp_async_16(shared_address(stage + row * kChunkPitch + column), w + row * kWidth + first + column);
  }
  cp_async_commit();
}

// sums = in w^T. Ends with every thread past its last read of the stages.
__device__ void multiply(float (&sums)[kWidth / 8][4], const __half* in, __half* stages, const __half* w) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n)
    for (int i = 0; i < 4; ++i) sums[n][i] = 0;
  load_chunk(stages, w, 0);
  constexpr int kChunks = kWidth / kChunk;
#pragma unroll 1
  for (int c = 0; c < kChunks; ++c) {
    if (c + 1 < kChunks) {
      load_chunk(stages + (c + 1) % 2 * kStage, w, (c + 1) * kChunk);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();  // every thread's share of the chunk is there
    const __half* stage = stages + c % 2 * kStage;
#pragma unroll
    for (int k = 0; k < kChunk; k += 16) {
      uint32_t a[4];
      ldmatrix_x4(a, shared_address(in + (warp * 16 + lane % 16) * kPitch + c * kChunk + k + lane / 16 * 8));
#pragma unroll
      for (int n = 0; n < kWidth / 8; n += 2) {
        uint32_t b[4];
        const int row = n * 8 + lane % 8 + lane / 16 * 8;
        ldmatrix_x4(b, shared_address(stage + row * kChunkPitch + k + lane / 8 % 2 * 8));
        mma_m16n8k16(sums[n], a, b[0], b[1]);
        mma_m16n8k16(sums[n + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();  // the stage may be written again
  }
}

__global__ void __launch_bounds__(kThreads) mma_block_kernel(BlockArgs args) {
  NLDF_DYNAMIC_SHARED(bytes);
  constexpr Layout layout;
  __half* x = shared_array<__half>(bytes, layout.x, kTile, "x");
  __half* hidden = shared_array<__half>(bytes, layout.hidden, kTile, "hidden");
  __half* stages = shared_array<__half>(bytes, layout.stages, 2 * kStage, "stages");
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = 2 * (lane % 4);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;

  for (int i = threadIdx.x; i < kRows * kWidth / 8; i += kThreads) {
    const int row = i / (kWidth / 8), column = i % (kWidth / 8) * 8;
    const bool valid = first + row < args.rows;
    const __half* source = args.x + (valid ? first + row : 0) * kWidth + column;
    cp_async_16(shared_address(x + row * kPitch + column), source, valid);
  }
  float sums[kWidth / 8][4];
  multiply(sums, x, stages, args.w1);
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    const float b0 = args.b1[n * 8 + t], b1 = args.b1[n * 8 + t + 1];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      auto* target = reinterpret_cast<uint32_t*>(hidden + (warp * 16 + g + 8 * h) * kPitch + n * 8 + t);
      *target = pack_half2_relu(sums[n][2 * h] + b0, sums[n][2 * h + 1] + b1);
    }
  }
  // A warp reads only the rows it wrote; multiply's first barrier comes before it does.
  multiply(sums, hidden, stages, args.w2);
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    const float b0 = args.b2[n * 8 + t], b1 = args.b2[n * 8 + t + 1];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = warp * 16 + g + 8 * h;
      const float2 v = unpack_half2(*reinterpret_cast<const uint32_t*>(x + row * kPitch + n * 8 + t));
      if (first + row < args.rows)
        *reinterpret_cast<uint32_t*>(args.y + (first + row) * kWidth + n * 8 + t) =
            pack_half2_relu(v.x + sums[n][2 * h] + b0, v.y + sums[n][2 * h + 1] + b1);
    }
  }
}
}  // namespace

void mma_block_cuda(const BlockArgs& args, const Exec& exec) {
  if (args.rows == 0) return;
  const auto blocks = static_cast<unsigned>((args.rows + kRows - 1) / kRows);
  launch_shape("mma_block", mma_block_kernel, {dim3(blocks), kThreads, layout_bytes<Layout>()}, exec, args);
}

}  // namespace nldf
