// The whole ResMLP in one kernel with mma.sync: rays stay in shared memory from input to output, weights
// stream past them. Compute capability 8.0 and newer; not yet measured on a GPU.
//
// A block walks tiles of 64 or 128 rays. Its shared memory holds two tiles of activations (the trunk x and
// the hidden h, swizzled as tile_at() says) and a ring of weight chunks filled by cp.async. Warps form a
// grid over the tile: with width 256 two by four, 32 (or 64) rays by 64 columns each.
//
// One barrier a chunk is all there is: after it every thread has finished the chunk before, so that chunk's
// place in the ring may be filled again, and a whole layer has gone by before a tile that was read is
// written again.
#include "core/launch.cuh"
#include "ops/resmlp_cuda.h"
#include "ops/resmlp_input.cuh"
#include "ops/resmlp_pack.h"
#include "ops/resmlp_tail.cuh"

namespace nldf {

namespace {

template <int Width, int Rows>
struct Mma {
  static constexpr int kWidth = Width, kRows = Rows;
  static constexpr int kWarpsN = Width >= 256 ? 4 : (Width >= 64 ? 2 : 1);
  static constexpr int kWarpsM = Width >= 64 ? 2 : 4;
  static constexpr int kWarps = kWarpsM * kWarpsN, kThreads = 32 * kWarps;
  static constexpr int kTilesM = Rows / 16 / kWarpsM;  // 16-row tiles of a warp
  static constexpr int kPairs = Width / 16 / kWarpsN;  // 16-column tiles of a warp
  static constexpr int kStages = 2;
  static constexpr int kDepth = mma_depth(Width), kPerLayer = Width / kDepth;
  static constexpr int kChunkBytes = kDepth * Width * 2;
  static constexpr int kTileBytes = Rows * Width * 2;
  static constexpr size_t kShared = size_t{2} * kTileBytes + size_t{kStages} * kChunkBytes;
  static_assert(Width % 16 == 0 && kTilesM * 16 * kWarpsM == Rows && kPairs * 16 * kWarpsN == Width,
                "whole tiles");
};
static_assert(Mma<256, 64>::kShared <= 99 << 10, "fits sm_86 and sm_89");
static_assert(Mma<256, 128>::kShared <= 163 << 10, "fits sm_80");

// A thread's view of the weight stream: chunks come round once a tile, kStages - 1 of them under way.
template <class S>
class Ring {
 public:
  __device__ Ring(unsigned char* stages, const uint16_t* stream, int chunks, int64_t total)
      : stages_(stages), stream_(stream), chunks_(chunks), left_(total) {
    for (int i = 0; i < S::kStages - 1; ++i) fetch();
  }
  // The next chunk, complete and visible to all. All threads of the block call it; what they wrote to
  // shared memory before is visible after it.
  __device__ const uint4* take() {
    ptx::cp_async_wait<S::kStages - 2>();
    __syncthreads();
    fetch();
    const uint4* chunk = reinterpret_cast<const uint4*>(stages_ + used_ * S::kChunkBytes);
    used_ = used_ + 1 == S::kStages ? 0 : used_ + 1;
    return chunk;
  }

 private:
  // Begins the copy of one more chunk. A group is closed even where none is left, to keep the count.
  __device__ void fetch() {
    if (left_ > 0) {
      const uint16_t* from = stream_ + static_cast<int64_t>(next_) * (S::kChunkBytes / 2);
      const uint32_t to = ptx::shared_address(stages_ + filled_ * S::kChunkBytes);
      for (int i = threadIdx.x; i < S::kChunkBytes / 16; i += S::kThreads)
        ptx::cp_async_16(to + 16 * i, from + 8 * i);
      next_ = next_ + 1 == chunks_ ? 0 : next_ + 1;
      --left_;
    }
    ptx::cp_async_commit();
    filled_ = filled_ + 1 == S::kStages ? 0 : filled_ + 1;
  }

  unsigned char* stages_;
  const uint16_t* stream_;
  int chunks_;
  int64_t left_;
  int next_ = 0, filled_ = 0, used_ = 0;
};

template <class S>
using Sums = float[S::kTilesM][2 * S::kPairs][4];

// Where a thread stands: `row` and `col` are those of its first accumulator in the block's tile.
struct Place {
  int warp, lane, row, col;
};
template <class S>
__device__ __forceinline__ Place place() {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  return {warp, lane, warp / S::kWarpsN * (16 * S::kTilesM) + fragment_row(lane, 0),
          warp % S::kWarpsN * (16 * S::kPairs) + fragment_col(lane, 0)};
}

// Calls body(row, col, sums) for each pair of neighbouring accumulators of this thread.
template <class S, class Body>
__device__ __forceinline__ void each_pair(const Place& at, Sums<S>& sums, const Body& body) {
#pragma unroll
  for (int i = 0; i < S::kTilesM; ++i) {
#pragma unroll
    for (int n = 0; n < 2 * S::kPairs; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        body(at.row + 16 * i + 8 * half, at.col + 8 * n, sums[i][n][2 * half], sums[i][n][2 * half + 1]);
      }
    }
  }
}

template <class S>
__device__ __forceinline__ __half2* pair_at(__half* tile, int row, int col) {
  return reinterpret_cast<__half2*>(tile + tile_at(row, col, S::kWidth));
}

// This lane's row of the 16x16 piece of `tile` at (row, col), for ldmatrix.
template <class S>
__device__ __forceinline__ uint32_t piece_at(const __half* tile, int row, int col, int lane) {
  return ptx::shared_address(tile + tile_at(row + lane % 16, col + lane / 16 * 8, S::kWidth));
}

// sums += tile[:, col : col + kDepth] times the chunk.
template <class S>
__device__ __forceinline__ void multiply(const Place& at, Sums<S>& sums, const __half* tile, int col,
                                         const uint4* chunk) {
  const int row0 = at.warp / S::kWarpsN * (16 * S::kTilesM), pair0 = at.warp % S::kWarpsN * S::kPairs;
#pragma unroll
  for (int step = 0; step < S::kDepth / 16; ++step) {
    uint32_t a[S::kTilesM][4];
#pragma unroll
    for (int i = 0; i < S::kTilesM; ++i) {
      ptx::ldmatrix_x4(a[i], piece_at<S>(tile, row0 + 16 * i, col + 16 * step, at.lane));
    }
#pragma unroll
    for (int p = 0; p < S::kPairs; ++p) {
      const uint4 b = chunk[(step * (S::kWidth / 16) + pair0 + p) * 32 + at.lane];
#pragma unroll
      for (int i = 0; i < S::kTilesM; ++i) {
        ptx::mma_m16n8k16(sums[i][2 * p], a[i], b.x, b.y);
        ptx::mma_m16n8k16(sums[i][2 * p + 1], a[i], b.z, b.w);
      }
    }
  }
}

// Columns [col, col + cols) of the tile's input to halves in shared memory; zeros outside of the input.
template <class S>
__device__ __forceinline__ void load_input(const ResmlpCudaArgs& args, int64_t ray0, int col, int cols,
                                           __half* tile) {
  for (int i = threadIdx.x; i < S::kRows * cols / 4; i += S::kThreads) {
    const int row = i / (cols / 4), c = i % (cols / 4) * 4;
    float v[4] = {};
    if (ray0 + row < args.rays && !args.input) {
      const float4 made = resmlp_beam(args, ray0 + row, col + c);
      v[0] = made.x, v[1] = made.y, v[2] = made.z, v[3] = made.w;
    } else if (ray0 + row < args.rays) {
      const float* from = args.input + (ray0 + row) * args.in_dim + col + c;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (col + c + j < args.in_dim) v[j] = from[j];
      }
    }
    *pair_at<S>(tile, row, c) = __floats2half2_rn(v[0], v[1]);
    *pair_at<S>(tile, row, c + 2) = __floats2half2_rn(v[2], v[3]);
  }
}

// Writes the tile as it stands after `layer`, where `dump_layer` names it.
template <class S>
__device__ __forceinline__ void dump(const ResmlpCudaArgs& args, int64_t ray0, int64_t layer, const Place& at,
                                     Sums<S>& sums, __half* tile) {
  if (!args.dump || args.dump_layer != layer) return;
  each_pair<S>(at, sums, [&](int row, int col, float, float) {
    if (ray0 + row >= args.rays) return;
    *reinterpret_cast<__half2*>(args.dump + (ray0 + row) * S::kWidth + col) = *pair_at<S>(tile, row, col);
  });
}

// The tail: 16 rays by 16 outputs at a time, the warps in turn.
template <class S>
__device__ __forceinline__ void tail(const ResmlpCudaArgs& args, int64_t ray0, const Place& at,
                                     const __half* tile, const uint4* chunk) {
  const int outputs = static_cast<int>(args.out_dim);
  constexpr int kPairs = S::kDepth / 16;
  for (int unit = at.warp; unit < S::kRows / 16 * kPairs; unit += S::kWarps) {
    const int row0 = unit / kPairs * 16, pair = unit % kPairs;
    if (pair * 16 >= outputs) continue;
    float sums[2][4] = {};
#pragma unroll 4
    for (int step = 0; step < S::kWidth / 16; ++step) {
      uint32_t a[4];
      ptx::ldmatrix_x4(a, piece_at<S>(tile, row0, 16 * step, at.lane));
      const uint4 b = chunk[(step * kPairs + pair) * 32 + at.lane];
      ptx::mma_m16n8k16(sums[0], a, b.x, b.y);
      ptx::mma_m16n8k16(sums[1], a, b.z, b.w);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t ray = ray0 + row0 + fragment_row(at.lane, 2 * half);
      Pixel pixel;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int col = pair * 16 + i / 2 * 8 + fragment_col(at.lane, i % 2);
        if (col >= outputs) continue;
        const float v = sums[i / 2][2 * half + i % 2] + args.tail_bias[col];
        if (args.out && ray < args.rays) args.out[ray * outputs + col] = v;
        pixel.add(col, outputs, v);
      }
      if (args.pixels) pixel.store(args.pixels + ray * 4, ray < args.rays);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) resmlp_mma_kernel(ResmlpCudaArgs args) {
  NLDF_DYNAMIC_SHARED(shared);
  __half* x = reinterpret_cast<__half*>(shared);
  __half* h = x + S::kRows * S::kWidth;
  const Place at = place<S>();
  const int layers = static_cast<int>(args.layers);
  const int head_chunks = static_cast<int>(resmlp_head_chunks(args.in_dim, S::kWidth, kLayoutMma));
  const int chunks = static_cast<int>(resmlp_chunks(args.in_dim, S::kWidth, args.layers, kLayoutMma));
  const int64_t tiles = (args.rays + S::kRows - 1) / S::kRows;
  const int64_t mine = (tiles - blockIdx.x + gridDim.x - 1) / gridDim.x;
  Ring<S> ring(shared + 2 * S::kTileBytes, args.weights, chunks, mine * chunks);
  // x_0 as each thread holds it, in this block's part of the scratch; never seen by another thread.
  __half2* first = reinterpret_cast<__half2*>(args.first) +
                   static_cast<int64_t>(blockIdx.x) * (S::kTileBytes / 4) + threadIdx.x;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t ray0 = tile * S::kRows;
    float sums[S::kTilesM][2 * S::kPairs][4];
    each_pair<S>(at, sums, [&](int row, int col, float& a, float& b) {
      const int64_t ray = ray0 + row < args.rays ? ray0 + row : args.rays - 1;
      const float2 bias =
          *reinterpret_cast<const float2*>(args.head_bias + ray / args.rays_per_frame * S::kWidth + col);
      a = bias.x, b = bias.y;
    });
    for (int c = 0; c < head_chunks; ++c) {
      const int within = c % S::kPerLayer;
      if (within == 0) {
        if (c) __syncthreads();  // the input columns before these have been read
        const int left = head_chunks - c;
        load_input<S>(args, ray0, c * S::kDepth, S::kDepth * (left < S::kPerLayer ? left : S::kPerLayer), h);
      }
      multiply<S>(at, sums, h, within * S::kDepth, ring.take());
    }
    int64_t held = 0;
    each_pair<S>(at, sums, [&](int row, int col, float a, float b) {
      const __half2 v = __floats2half2_rn(fmaxf(a, 0.0f), fmaxf(b, 0.0f));
      *pair_at<S>(x, row, col) = v;
      if (layers) first[held] = v;
      held += S::kThreads;
    });
    dump<S>(args, ray0, 0, at, sums, x);

#pragma unroll 1
    for (int layer = 0; layer < layers; ++layer) {
      each_pair<S>(at, sums, [&](int, int col, float& a, float& b) {
        const float2 bias = *reinterpret_cast<const float2*>(args.body_bias + layer * S::kWidth + col);
        a = bias.x, b = bias.y;
      });
      __half* from = layer % 2 ? h : x;
#pragma unroll 1
      for (int c = 0; c < S::kPerLayer; ++c) multiply<S>(at, sums, from, c * S::kDepth, ring.take());
      if (layer % 2 == 0) {
        each_pair<S>(at, sums, [&](int row, int col, float a, float b) {
          *pair_at<S>(h, row, col) = __floats2half2_rn(fmaxf(a, 0.0f), fmaxf(b, 0.0f));
        });
        dump<S>(args, ray0, layer + 1, at, sums, h);
        continue;
      }
      each_pair<S>(at, sums, [&](int row, int col, float a, float b) {
        const float2 v = __half22float2(*pair_at<S>(x, row, col));
        *pair_at<S>(x, row, col) = __floats2half2_rn(v.x + a, v.y + b);
      });
      dump<S>(args, ray0, layer + 1, at, sums, x);
    }
    held = 0;
    each_pair<S>(at, sums, [&](int row, int col, float, float) {
      if (!layers) return;
      const float2 v = __half22float2(*pair_at<S>(x, row, col)), skip = __half22float2(first[held]);
      *pair_at<S>(x, row, col) = __floats2half2_rn(v.x + skip.x, v.y + skip.y);
      held += S::kThreads;
    });
    tail<S>(args, ray0, at, x, ring.take());
  }
}

template <int Width, int Rows>
void launch_mma(const ResmlpCudaArgs& args, const Exec& exec) {
  using S = Mma<Width, Rows>;
  const int64_t tiles = (args.rays + Rows - 1) / Rows;
  const unsigned blocks = static_cast<unsigned>(std::min(args.blocks, tiles));
  launch_shape("resmlp_mma", resmlp_mma_kernel<S>, {dim3(blocks), S::kThreads, S::kShared}, exec, args);
}

template <int Width>
void choose_rows(const ResmlpCudaArgs& args, const Exec& exec) {
  if (args.rows == 64) return launch_mma<Width, 64>(args, exec);
  if (args.rows == 128) return launch_mma<Width, 128>(args, exec);
  throw std::invalid_argument("resmlp_mma: rows must be 64 or 128, got " + std::to_string(args.rows));
}

}  // namespace

void resmlp_mma_cuda(const ResmlpCudaArgs& args, const Exec& exec) {
  if (args.rays == 0) return;
  switch (args.width) {
    case 16:
      return choose_rows<16>(args, exec);
    case 32:
      return choose_rows<32>(args, exec);
    case 64:
      return choose_rows<64>(args, exec);
    case 128:
      return choose_rows<128>(args, exec);
    case 256:
      return choose_rows<256>(args, exec);
    default:
      throw std::invalid_argument("resmlp_mma: width must be 16, 32, 64, 128 or 256, got " +
                                  std::to_string(args.width));
  }
}

}  // namespace nldf
