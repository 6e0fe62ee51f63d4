// The light field over planes (planes.h) by a warp at a time, with mma.sync: compute capability 8.0 and
// newer.
//
// A warp takes 16 or 32 lines through both networks. Activations never leave its registers: the accumulators
// of a layer, rounded to halves, are the A fragments of the next. The inputs of a first layer are made where
// its fragments want them: a lane needs four neighbouring columns of two rows a step, which with the usual
// four features is one level of one grid, so a lookup goes from the table to the tensor cores by way of no
// memory. Weights lie in shared memory where they fit, biases and levels always do. Tables, weights and
// activations are halves; coordinates, interpolation and sums are floats.
//
// Weights: layer by layer as planes.h says, each [inputs / 16][outputs / 16] pieces of 16 x 16, a piece in
// the order of mma_weight_at() (core/fragments.h), so that a lane reads 16 bytes of its own; inputs and
// outputs are filled up to multiples of 16. Within 16 columns of a first layer, column 4 q + i stands at
// place 2 q + i % 2 + 8 (i / 2). Biases are floats, layer by layer, filled up to multiples of 16. Tables have
// four or eight features: fewer are filled up with zeros.
#pragma once

#include "core/fragments.h"
#include "core/launch.cuh"
#include "core/shared.cuh"
#include "ops/planes.h"
#include "ops/planes_cell.cuh"

namespace nldf {

constexpr int kPlanesWarps = 4;  // of a block
constexpr int kPlanesThreads = 32 * kPlanesWarps;
// Weights go to shared memory up to here: what is left of 99 KB holds the rest, also for 16 planes.
constexpr size_t kPlanesSharedWeights = 64 << 10;

// A network as kernels take it, by value.
struct PlanesDevice {
  const float* depths;
  const Half* warp_table;
  const Half* tables[kPlanesMost];
  const Half* weights;
  const float* biases;
  const float* box;
  PlanesLevel level[2 * kGridLevels];  // the warp's, then those of the planes
  int warp_levels, levels, features, planes, ambient, width, warp_hidden, hidden;
  float warp_scale, opacity_slope;

  NLDF_HD int warp_outputs() const { return 2 * planes + ambient; }
  NLDF_HD int outputs() const { return 3 * planes + 1; }
  // Steps of 16 columns of the first layers, and pieces of 16 outputs of the tails.
  NLDF_HD int warp_steps() const { return (warp_levels * features + 2 + 15) / 16; }
  NLDF_HD int steps() const { return (planes * levels * features + ambient + 15) / 16; }
  NLDF_HD int warp_pieces() const { return (warp_outputs() + 15) / 16; }
  NLDF_HD int pieces() const { return (outputs() + 15) / 16; }
  // Pieces of 16 x 16 weights, and biases.
  NLDF_HD int all_pieces() const {
    const int wide = width / 16;
    return wide * (warp_steps() + steps() + wide * (warp_hidden + hidden - 2) + warp_pieces() + pieces());
  }
  NLDF_HD int all_biases() const {
    return width * (warp_hidden + hidden - 2) + 16 * (warp_pieces() + pieces());
  }
  // Floats of a row of results: odd, so that rows begin in different banks.
  NLDF_HD int stride() const { return (warp_outputs() > outputs() ? warp_outputs() : outputs()) | 1; }
};

inline PlanesDevice planes_device(const PlanesNetwork<float, Half>& net) {
  PlanesDevice made{};
  made.depths = net.depths, made.warp_table = net.warp_table, made.weights = net.weights;
  made.biases = net.biases, made.box = net.box;
  for (int64_t p = 0; p < net.planes; ++p) made.tables[p] = reinterpret_cast<const Half*>(net.tables[p]);
  planes_levels(net.warp_resolutions, net.warp_offsets, net.warp_levels, made.level);
  planes_levels(net.resolutions, net.offsets, net.levels, made.level + net.warp_levels);
  made.warp_levels = static_cast<int>(net.warp_levels), made.levels = static_cast<int>(net.levels);
  made.features = static_cast<int>(net.features), made.planes = static_cast<int>(net.planes);
  made.ambient = static_cast<int>(net.ambient), made.width = static_cast<int>(net.width);
  made.warp_hidden = static_cast<int>(net.warp_hidden), made.hidden = static_cast<int>(net.hidden);
  made.warp_scale = net.warp_scale, made.opacity_slope = net.opacity_slope;
  return made;
}

// Where a network's parts lie in a block's dynamic shared memory, in bytes.
struct PlanesShared {
  int weights;  // -1 where they stay in global memory
  int biases, levels;
};
inline size_t planes_weight_bytes(const PlanesDevice& net) {
  return size_t{512} * net.all_pieces();
}
inline PlanesShared planes_shared(const PlanesDevice& net, bool weights, SharedPlan& plan) {
  PlanesShared at{-1, 0, 0};
  if (weights) at.weights = static_cast<int>(plan.add(planes_weight_bytes(net)));
  at.biases = static_cast<int>(plan.add(sizeof(float) * net.all_biases()));
  at.levels = static_cast<int>(plan.add(sizeof(PlanesLevel) * (net.warp_levels + net.levels)));
  return at;
}

// Where the lines and the results of a block's warps lie; each warp has `rows` of both.
struct PlanesOwn {
  int lines, results, stride;  // floats of a row of results
};
inline PlanesOwn planes_own(int rows, int stride, SharedPlan& plan) {
  const int lines = static_cast<int>(plan.add(sizeof(float4) * rows * kPlanesWarps));
  return {lines, static_cast<int>(plan.add(sizeof(float) * rows * stride * kPlanesWarps)), stride};
}

// What a warp works with.
struct PlanesPlace {
  const uint4* weights;
  const float* biases;
  const PlanesLevel* levels;
  float4* lines;   // [rows] start, slope
  float* results;  // [rows][stride]
  int stride;
};
template <bool Shared>
__device__ __forceinline__ PlanesPlace planes_place(const PlanesDevice& net, const PlanesShared& at,
                                                    const PlanesOwn& own, int rows, unsigned char* shared) {
  const int warp = threadIdx.x / 32;
  PlanesPlace place;
  // Decided when compiled: a pointer that may be either would be read by generic loads.
  if constexpr (Shared) {
    place.weights = shared_array<uint4>(shared, at.weights, 32 * net.all_pieces(), "weights");
  } else {
    place.weights = reinterpret_cast<const uint4*>(net.weights);
  }
  place.biases = shared_array<float>(shared, at.biases, net.all_biases(), "biases");
  place.levels = shared_array<PlanesLevel>(shared, at.levels, net.warp_levels + net.levels, "levels");
  place.lines = shared_array<float4>(shared, own.lines, rows * kPlanesWarps, "lines") + warp * rows;
  place.results = shared_array<float>(shared, own.results, rows * own.stride * kPlanesWarps, "results") +
                  warp * rows * own.stride;
  place.stride = own.stride;
  return place;
}

// Brings a network's weights, biases and levels in; the block's barrier is to follow.
__device__ __forceinline__ void planes_load(const PlanesDevice& net, const PlanesShared& at,
                                            unsigned char* shared) {
  if (at.weights >= 0) {
    const uint4* const weights = reinterpret_cast<const uint4*>(net.weights);
    uint4* const kept = shared_array<uint4>(shared, at.weights, 32 * net.all_pieces(), "weights");
    for (int i = threadIdx.x; i < 32 * net.all_pieces(); i += kPlanesThreads) kept[i] = __ldg(weights + i);
  }
  float* const biases = shared_array<float>(shared, at.biases, net.all_biases(), "biases");
  for (int i = threadIdx.x; i < net.all_biases(); i += kPlanesThreads) biases[i] = __ldg(net.biases + i);
  PlanesLevel* const levels =
      shared_array<PlanesLevel>(shared, at.levels, net.warp_levels + net.levels, "levels");
  for (int i = threadIdx.x; i < net.warp_levels + net.levels; i += kPlanesThreads) levels[i] = net.level[i];
}

// Four features of a point from `feature` on.
__device__ __forceinline__ float4 planes_read_four(const PlanesLevel& level, const Half* table, int features,
                                                   int feature, float2 at) {
  const PlanesCell cell = planes_cell(level, at.x, at.y);
  float2 low[4], high[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Half* const entry = table + static_cast<int64_t>(cell.corner[i]) * features + feature;
    const uint2 bits = __ldg(reinterpret_cast<const uint2*>(entry));
    low[i] = ptx::unpack_half2(bits.x), high[i] = ptx::unpack_half2(bits.y);
  }
  return make_float4(planes_mix(cell, low[0].x, low[1].x, low[2].x, low[3].x),
                     planes_mix(cell, low[0].y, low[1].y, low[2].y, low[3].y),
                     planes_mix(cell, high[0].x, high[1].x, high[2].x, high[3].x),
                     planes_mix(cell, high[0].y, high[1].y, high[2].y, high[3].y));
}
// The inputs of the warp net (Warp) and of the second network.
template <bool Warp>
struct PlanesInputs {
  const PlanesDevice& net;
  const PlanesPlace& place;

  // Columns of one grid; grids; where a row is read in one of them.
  __device__ int each() const { return (Warp ? net.warp_levels : net.levels) * net.features; }
  __device__ int grids() const { return Warp ? 1 : net.planes; }
  __device__ const PlanesLevel& level(int i) const { return place.levels[Warp ? i : net.warp_levels + i]; }
  __device__ const Half* table(int grid) const { return Warp ? net.warp_table : net.tables[grid]; }
  __device__ float2 point(int row, int grid) const {
    const float4 line = place.lines[row];
    const float z = __ldg(net.depths + (Warp ? net.planes : grid));
    float2 at = make_float2(line.x + z * line.z, line.y + z * line.w);
    if (!Warp) {
      const float* const moved = place.results + row * place.stride + 2 * grid;
      at.x += net.warp_scale * moved[0], at.y += net.warp_scale * moved[1];
    }
    return at;
  }
  // Column `i` behind those of the grids.
  __device__ float rest(int row, int i) const {
    if (!Warp) return i < net.ambient ? place.results[row * place.stride + 2 * net.planes + i] : 0.0f;
    if (i >= 2) return 0.0f;
    const float2 at = point(row, 0);
    return 2.0f * (i ? at.y : at.x) - 1.0f;
  }
  // Columns column ... column + 3; `column` is a multiple of four.
  __device__ __forceinline__ float4 four(int row, int column) const {
    const int grid = column / each(), within = column - grid * each();
    if (grid < grids()) {
      const int shift = net.features == 8 ? 3 : 2;
      return planes_read_four(level(within >> shift), table(grid), net.features, within & (net.features - 1),
                              point(row, grid));
    }
    const int i = column - grids() * each();
    return make_float4(rest(row, i), rest(row, i + 1), rest(row, i + 2), rest(row, i + 3));
  }
};

// Both networks for the lines of a warp. Rows are independent: what a row holds harms no other.
template <int Width, int Tiles>
class PlanesWarp {
 public:
  static constexpr int kSteps = Width / 16;  // of a hidden layer's inputs, and its pieces of outputs

  __device__ PlanesWarp(const PlanesDevice& net, const PlanesPlace& place)
      : net_(net), place_(place), weights_(place.weights), biases_(place.biases) {}

  // From place.lines to place.results: the raw outputs of the second network. All lanes of the warp call it,
  // after a __syncwarp() behind the lines; the results are this lane's to read after another one.
  __device__ __forceinline__ void run(const float* warp_bias, const float* bias) {
    network<true>(warp_bias, net_.warp_steps(), net_.warp_hidden, net_.warp_outputs());
    __syncwarp();
    network<false>(bias, net_.steps(), net_.hidden, net_.outputs());
  }

 private:
  using Sums = float[Tiles][2 * kSteps][4];
  using Activations = uint32_t[Tiles][kSteps][4];

  // Every lane starts from the biases of its own two columns.
  __device__ __forceinline__ void start(Sums& sums, const float* bias) {
#pragma unroll
    for (int n = 0; n < 2 * kSteps; ++n) {
      const float2 b = *reinterpret_cast<const float2*>(bias + 8 * n + fragment_col(lane_, 0));
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        sums[i][n][0] = sums[i][n][2] = b.x;
        sums[i][n][1] = sums[i][n][3] = b.y;
      }
    }
  }
  __device__ __forceinline__ void activate(const Sums& sums, Activations& x) {
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const float* const two = &sums[i][2 * j + r / 2][2 * (r % 2)];
          x[i][j][r] = ptx::pack_half2_relu(two[0], two[1]);
        }
      }
    }
  }

  template <bool Warp>
  __device__ __forceinline__ void network(const float* frame_bias, int steps, int hidden, int outputs) {
    Activations x;
    {
      const PlanesInputs<Warp> inputs{net_, place_};
      Sums sums;
      start(sums, frame_bias);
#pragma unroll 1
      for (int step = 0; step < steps; ++step, weights_ += 32 * kSteps) {
        const int column = 16 * step + lane_ % 4 * 4;
        uint32_t a[Tiles][4];
#pragma unroll
        for (int i = 0; i < Tiles; ++i) {
          const float4 u = inputs.four(16 * i + lane_ / 4, column);
          const float4 v = inputs.four(16 * i + lane_ / 4 + 8, column);
          a[i][0] = ptx::pack_half2(u.x, u.y), a[i][1] = ptx::pack_half2(v.x, v.y);
          a[i][2] = ptx::pack_half2(u.z, u.w), a[i][3] = ptx::pack_half2(v.z, v.w);
        }
#pragma unroll
        for (int p = 0; p < kSteps; ++p) {
          const uint4 b = weights_[32 * p + lane_];
#pragma unroll
          for (int i = 0; i < Tiles; ++i) {
            ptx::mma_m16n8k16(sums[i][2 * p], a[i], b.x, b.y);
            ptx::mma_m16n8k16(sums[i][2 * p + 1], a[i], b.z, b.w);
          }
        }
      }
      activate(sums, x);
    }
#pragma unroll 1
    for (int layer = 1; layer < hidden; ++layer, biases_ += Width) {
      Sums sums;
      start(sums, biases_);
#pragma unroll
      for (int j = 0; j < kSteps; ++j, weights_ += 32 * kSteps) {
#pragma unroll
        for (int p = 0; p < kSteps; ++p) {
          const uint4 b = weights_[32 * p + lane_];
#pragma unroll
          for (int i = 0; i < Tiles; ++i) {
            ptx::mma_m16n8k16(sums[i][2 * p], x[i][j], b.x, b.y);
            ptx::mma_m16n8k16(sums[i][2 * p + 1], x[i][j], b.z, b.w);
          }
        }
      }
      activate(sums, x);
    }
    __syncwarp();  // the inputs have been read from where the outputs go
    const int pieces = (outputs + 15) / 16;
#pragma unroll 1
    for (int piece = 0; piece < pieces; ++piece) {
      float sums[Tiles][2][4];
#pragma unroll
      for (int i = 0; i < 8 * Tiles; ++i) {
        sums[i / 8][i / 4 % 2][i % 4] = biases_[16 * piece + i / 4 % 2 * 8 + fragment_col(lane_, i % 2)];
      }
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        const uint4 b = weights_[32 * (j * pieces + piece) + lane_];
#pragma unroll
        for (int i = 0; i < Tiles; ++i) {
          ptx::mma_m16n8k16(sums[i][0], x[i][j], b.x, b.y);
          ptx::mma_m16n8k16(sums[i][1], x[i][j], b.z, b.w);
        }
      }
#pragma unroll
      for (int i = 0; i < 8 * Tiles; ++i) {
        const int row = i / 8 * 16 + fragment_row(lane_, i % 4);
        const int column = 16 * piece + i / 4 % 2 * 8 + fragment_col(lane_, i % 2);
        if (column < outputs) place_.results[row * place_.stride + column] = sums[i / 8][i / 4 % 2][i % 4];
      }
    }
    weights_ += 32 * kSteps * pieces;
    biases_ += 16 * pieces;
  }

  const PlanesDevice& net_;
  const PlanesPlace& place_;
  const uint4* weights_;
  const float* biases_;
  const int lane_ = threadIdx.x % 32;
};

}  // namespace nldf
