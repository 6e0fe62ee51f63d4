// One layer on sm_90a, in clusters of two blocks: a warpgroup that multiplies 64 rows, one whose first thread
// streams the weights through a ring of stages. Each block fetches half of every chunk and sends it to both.
#include "core/launch.cuh"
#include "core/shared.cuh"
#include "layers.h"

namespace nldf {

namespace {
using namespace ptx;

[[maybe_unused]] constexpr int kIn = 256, kOut = 128, kChunks = kIn / 64, kStages = 3;
constexpr int kStageBytes = kOut * 128, kPitch = kIn + 8, kRows = 64, kThreads = 256, kCluster = 2;
[[maybe_unused]] constexpr int kWarps = 4;  // that multiply

struct Layout {
  SharedPlan plan;
  size_t stages = plan.add(kStages * kStageBytes, 1024);
  size_t x = plan.add(kRows * kPitch * sizeof(__half));
  size_t barriers = plan.add(2 * kStages * sizeof(uint64_t));
};

__global__ void __launch_bounds__(kThreads) wgmma_ring_kernel(RingArgs args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(bytes);
  constexpr Layout layout;
  const uint32_t stages =
      shared_address(shared_array<unsigned char>(bytes, layout.stages, kStages * kStageBytes, "stages"));
  __half* x = shared_array<__half>(bytes, layout.x, kRows * kPitch, "x");
  const uint32_t full =
      shared_address(shared_array<uint64_t>(bytes, layout.barriers, 2 * kStages, "barriers"));
  const uint32_t empty = full + 8 * kStages;
  const uint32_t rank = cluster_rank();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t tiles = (args.rows + kRows - 1) / kRows;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      mbarrier_init(full + 8 * s, 1);
      mbarrier_init(empty + 8 * s, kCluster * kWarps);
    }
    fence_mbarrier_init();
  }
  cluster_arrive();
  cluster_wait();

  int step = 0;  // chunks so far
  if (warp >= kWarps) {
    registers_lower<24>();
    if (threadIdx.x == 32 * kWarps) {
      for (int64_t pair = blockIdx.x / kCluster; pair * kCluster < tiles; pair += gridDim.x / kCluster) {
        for (int c = 0; c < kChunks; ++c, ++step) {
          const int s = step % kStages;
          mbarrier_wait(empty + 8 * s, (step / kStages & 1) ^ 1);
          mbarrier_arrive_expect_tx(full + 8 * s, kStageBytes);
          const uint32_t half = rank * (kStageBytes / kCluster);
          const auto* source = reinterpret_cast<const unsigned char*>(args.packed) + c * kStageBytes + half;
          bulk_load_multicast(stages + s * kStageBytes + half, source, kStageBytes / kCluster, full + 8 * s,
                              3);
        }
      }
    }
  } else {
    registers_raise<240>();
    for (int64_t pair = blockIdx.x / kCluster; pair * kCluster < tiles; pair += gridDim.x / kCluster) {
      const int64_t first = (pair * kCluster + rank) * kRows;
      for (int i = threadIdx.x; i < kRows * kIn / 8; i += 32 * kWarps) {
        const int row = i / (kIn / 8), column = i % (kIn / 8) * 8;
        const bool valid = first + row < args.rows;
        const __half* source = args.x + (valid ? first + row : 0) * kIn + column;
        cp_async_16(shared_address(x + row * kPitch + column), source, valid);
      }
      cp_async_commit();
      cp_async_wait<0>();
      barrier_sync(1, 32 * kWarps);
      float d[kOut / 2];
#pragma unroll 1
      for (int c = 0; c < kChunks; ++c, ++step) {
        const int s = step % kStages;
        uint32_t a[4][4];
#pragma unroll
        for (int k = 0; k < 4; ++k)
          ldmatrix_x4(a[k],
                      shared_address(x + (warp * 16 + lane % 16) * kPitch + c * 64 + k * 16 + lane / 16 * 8));
        mbarrier_wait(full + 8 * s, step / kStages & 1);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const uint64_t b = matrix_descriptor_128(stages + s * kStageBytes + 32 * k);
          wgmma_rs<kOut>(d, a[k][0], a[k][1], a[k][2], a[k][3], b, c + k != 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        if (lane < kCluster) mbarrier_arrive_cluster(map_shared(empty + 8 * s, lane));
        __syncwarp();
      }
#pragma unroll
      for (int i = 0; i < kOut / 2; ++i) {
        const int64_t row = first + warp * 16 + lane / 4 + i / 2 % 2 * 8;
        const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (row < args.rows) args.y[row * kOut + column] = fmaxf(d[i] + args.b[column], 0.0f);
      }
      barrier_sync(1, 32 * kWarps);  // x may be written again
    }
  }
  // The other block may still send to this one.
  cluster_arrive();
  cluster_wait();
#endif
}
}  // namespace

void wgmma_ring_cuda(const RingArgs& args, const Exec& exec) {
  if (args.rows == 0) return;
  const int64_t pairs = (args.rows + kCluster * kRows - 1) / (kCluster * kRows);
  // One cluster walks all of the rows, so that the ring goes round more than once.
  const auto blocks = static_cast<unsigned>(kCluster * std::min<int64_t>(pairs, multiprocessors(exec) / 4));
  launch_shape("wgmma_ring", wgmma_ring_kernel, {dim3(blocks), kThreads, layout_bytes<Layout>(), kCluster},
               exec, args);
}

}  // namespace nldf
