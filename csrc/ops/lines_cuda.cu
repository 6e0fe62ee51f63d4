// Lines through planes and their gradients on CUDA, in floats throughout. Not yet measured on a GPU.
//
// A block takes a group of 32 lines of one frame, a lane each, through all layers: products of 64 outputs by
// 32 lines, whose operands pass through shared memory in stages, so that no size of a network is too large.
// What a layer makes goes to `kept`, [features][32] a group, where the next layer and the way back find it.
// On the way back every block adds up its groups' gradients of weights in its own part of the scratch memory,
// and a second kernel sums the parts in their order.
#include <stdexcept>

#include "core/launch.cuh"
#include "core/shared.cuh"
#include "ops/lines.h"
#include "ops/planes_cell.cuh"

namespace nldf {

namespace {

constexpr int kLine = 32;  // lines of a group
constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlocks =
    4;  // of a multiprocessor: asking for them lets ptxas take 128 registers, and spill none
constexpr int kStage = 32;          // of the summed dimension, at once
constexpr int kOutputs = 64;        // of a product at once
constexpr int kRow = kOutputs + 1;  // odd, so that rows begin in different banks
constexpr int kWide = kLine + 1;    // and so are these
constexpr int kRight = kLine + 4;   // of four floats at a time
constexpr int kLeft = kOutputs * kWide > kStage* kRow ? kOutputs * kWide : kStage * kRow;
constexpr int kMoves = kWarps * 2 * kLine;
constexpr int kTables = kPlanesMost + 1;
static_assert(kLine == kLinesRoom, "scratch and kept memory are measured by it");

struct LinesLayer {
  const float* weights;
  const float* bias;
  int inputs, columns, outputs;
  int x, y;               // rows of `kept`: inputs but the frame's, and outputs
  int v_weights, v_bias;  // in the sums of a part
  bool tail;
};

struct LinesDevice {
  const float* tables[kTables];  // the warp's first
  LinesLayer layer[kPlanesLayers];
  PlanesLevel level[2 * kGridLevels];  // the warp's, then those of the planes
  float depths[kTables];
  int warp_levels, levels, features, planes, ambient, frame, warp_layers, layers;
  int rows;  // of `kept`, for each group
  float warp_scale, opacity_slope;

  NLDF_HD int each() const { return levels * features; }
};

LinesDevice lines_device(const LinesNetwork& net) {
  if (net.layers() > kPlanesLayers || net.planes > kPlanesMost) {
    throw std::invalid_argument("lines: a network of too many layers or planes");
  }
  LinesDevice made{};
  int row = 2 * (static_cast<int>(net.planes) + 1), v = 0;
  for (int64_t l = 0; l < net.layers(); ++l) {
    LinesLayer& layer = made.layer[l];
    layer.weights = reinterpret_cast<const float*>(net.weights[l]);
    layer.bias = reinterpret_cast<const float*>(net.biases[l]);
    layer.inputs = static_cast<int>(net.inputs(l)), layer.columns = static_cast<int>(net.columns(l));
    layer.outputs = static_cast<int>(net.outputs(l)), layer.tail = net.tail(l);
    layer.x = net.first(l) ? row : made.layer[l - 1].y;
    row += net.first(l) ? layer.inputs : 0;
    layer.y = row;
    row += layer.outputs;
    layer.v_weights = v;
    v += layer.outputs * layer.columns;
  }
  for (int64_t l = 0; l < net.layers(); ++l) {
    made.layer[l].v_bias = v;
    v += made.layer[l].outputs;
  }
  for (int64_t t = 0; t <= net.planes; ++t) {
    made.tables[t] = reinterpret_cast<const float*>(net.tables[t]);
    made.depths[t] = static_cast<float>(net.depths[t]);
  }
  planes_levels(net.warp_resolutions, net.warp_offsets, net.warp_levels, made.level);
  planes_levels(net.resolutions, net.offsets, net.levels, made.level + net.warp_levels);
  made.warp_levels = static_cast<int>(net.warp_levels), made.levels = static_cast<int>(net.levels);
  made.features = static_cast<int>(net.features), made.planes = static_cast<int>(net.planes);
  made.ambient = static_cast<int>(net.ambient), made.frame = static_cast<int>(net.frame);
  made.warp_layers = static_cast<int>(net.warp_layers()), made.layers = static_cast<int>(net.layers());
  made.rows = row;
  made.warp_scale = static_cast<float>(net.warp_scale);
  made.opacity_slope = static_cast<float>(net.opacity_slope);
  return made;
}

// What a block works with in shared memory.
struct LinesLayout {
  SharedPlan plan;
  size_t left = plan.add(sizeof(float) * kLeft), right = plan.add(sizeof(float) * kStage * kRight);
  size_t moves = plan.add(sizeof(float) * kMoves);
};

struct LinesShared {
  float* left;   // [kStage][kRow] of weights; [kOutputs][kWide] of outputs' gradients for those of weights
  float* right;  // [kStage][kRight] of lines; [kStage][kWide] for the gradients of weights
  float* moves;  // [kWarps][2][kLine]
};
__device__ __forceinline__ LinesShared lines_shared(unsigned char* bytes) {
  constexpr LinesLayout layout;
  return {shared_array<float>(bytes, layout.left, kLeft, "left"),
          shared_array<float>(bytes, layout.right, kStage * kRight, "right"),
          shared_array<float>(bytes, layout.moves, kMoves, "moves")};
}

// A group of lines: where it stands, and this lane's line.
struct LinesGroup {
  int64_t frame, line;
  bool mine, any;  // this line is evaluated; one of the group is
  float4 at;       // start and slope; zeros where it isn't, since no NaN may come of it
};
__device__ __forceinline__ LinesGroup lines_group(const float* lines, const uint8_t* inside, int64_t group,
                                                  int64_t groups, int64_t rays) {
  LinesGroup made;
  made.frame = group / groups;
  const int64_t within = group % groups * kLine + threadIdx.x % 32;
  made.line = made.frame * rays + within;
  made.mine = within < rays && (!inside || inside[made.line]);
  made.any = __any_sync(~0u, made.mine);
  made.at = made.mine ? __ldg(reinterpret_cast<const float4*>(lines) + made.line)
                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  return made;
}

// Rows of 32 lines: a warp's part of each.
__device__ __forceinline__ float* lines_row(float* rows, int row) {
  return rows + row * kLine + threadIdx.x % 32;
}

// A point's features in the levels of a grid that are this warp's, into rows [levels * features][32].
__device__ __forceinline__ void lines_read(const PlanesLevel* levels, int count, int features,
                                           const float* table, float x, float y, float* rows) {
  for (int l = threadIdx.x / 32; l < count; l += kWarps) {
    const PlanesCell cell = planes_cell(levels[l], x, y);
    for (int f = 0; f < features; ++f) {
      float value[4];
#pragma unroll
      for (int c = 0; c < 4; ++c)
        value[c] = __ldg(table + static_cast<int64_t>(cell.corner[c]) * features + f);
      *lines_row(rows, l * features + f) = planes_mix(cell, value[0], value[1], value[2], value[3]);
    }
  }
}

// One input of a layer for one line: what lines differ in, then the frame's numbers.
__device__ __forceinline__ float lines_input(const LinesLayer& at, const float* kept, const float* inputs,
                                             int column, int line) {
  if (column < at.inputs) return kept[(at.x + column) * kLine + line];
  return column < at.columns ? __ldg(inputs + column - at.inputs) : 0.0f;
}

// Four by four sums of a product of kOutputs by kLine: outputs threadIdx.x / 8 + 16 i, lines
// 4 (threadIdx.x % 8) + j.
__device__ __forceinline__ void lines_multiply(const LinesShared& shared, float (&sum)[4][4]) {
  const float* const left = shared.left + threadIdx.x / 8;
  const float* const right = shared.right + 4 * (threadIdx.x % 8);
#pragma unroll 8
  for (int k = 0; k < kStage; ++k) {
    const float4 b = *reinterpret_cast<const float4*>(right + k * kRight);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float a = left[k * kRow + 16 * i];
      sum[i][0] += a * b.x, sum[i][1] += a * b.y, sum[i][2] += a * b.z, sum[i][3] += a * b.w;
    }
  }
}

// A layer, from its rows of `kept` to its others.
__device__ __forceinline__ void lines_forward(const LinesLayer& at, const float* inputs, float* kept,
                                              const LinesShared& shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int first = 0; first < at.outputs; first += kOutputs) {
    float sum[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int output = first + threadIdx.x / 8 + 16 * i;
      const float bias = output < at.outputs ? __ldg(at.bias + output) : 0.0f;
      sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = bias;
    }
    for (int stage = 0; stage < at.columns; stage += kStage) {
      __syncthreads();  // the former stage has been read, and what the rows hold was written
      const int column = stage + lane;
      for (int o = warp; o < kOutputs; o += kWarps) {
        const bool known = first + o < at.outputs && column < at.columns;
        shared.left[lane * kRow + o] = known ? __ldg(at.weights + (first + o) * at.columns + column) : 0.0f;
      }
      for (int k = warp; k < kStage; k += kWarps)
        shared.right[k * kRight + lane] = lines_input(at, kept, inputs, stage + k, lane);
      __syncthreads();  // the stage is there
      lines_multiply(shared, sum);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int output = first + threadIdx.x / 8 + 16 * i;
      if (output >= at.outputs) continue;
      const float floor = at.tail ? -INFINITY : 0.0f;
      *reinterpret_cast<float4*>(kept + (at.y + output) * kLine + 4 * (threadIdx.x % 8)) = make_float4(
          fmaxf(sum[i][0], floor), fmaxf(sum[i][1], floor), fmaxf(sum[i][2], floor), fmaxf(sum[i][3], floor));
    }
  }
  __syncthreads();  // the outputs are there
}

struct LinesParams {
  LinesDevice net;
  const float* lines;
  const uint8_t* inside;
  const float* inputs;
  float* segments;
  float* opacity;
  float* kept;
  int64_t frames, rays, groups;  // groups of a frame
};

// Where a line crosses a plane, moved by what the warp net says: rows `row` and `row + 1` of `kept`.
__device__ __forceinline__ void lines_place(const LinesDevice& net, const float4& line, int plane,
                                            const float* warp, float& x, float& y) {
  const float z = net.depths[plane];
  x = line.x + z * line.z + net.warp_scale * warp[2 * plane * kLine];
  y = line.y + z * line.w + net.warp_scale * warp[(2 * plane + 1) * kLine];
}

__global__ void __launch_bounds__(kThreads, kBlocks) lines_kernel(const __grid_constant__ LinesParams args) {
  NLDF_DYNAMIC_SHARED(bytes);
  const LinesShared shared = lines_shared(bytes);
  const LinesDevice& net = args.net;
  const int warp = threadIdx.x / 32, colors = 3 * net.planes;
  for (int64_t group = blockIdx.x; group < args.frames * args.groups; group += gridDim.x) {
    const LinesGroup own = lines_group(args.lines, args.inside, group, args.groups, args.rays);
    const bool written = group % args.groups * kLine + threadIdx.x % 32 < args.rays;
    if (own.any) {
      float* const kept = args.kept + group * net.rows * kLine;
      const float* const inputs = args.inputs + own.frame * net.frame;
      const LinesLayer& seen = net.layer[0];
      const LinesLayer& second = net.layer[net.warp_layers];
      const float z = net.depths[net.planes];
      const float x = own.at.x + z * own.at.z, y = own.at.y + z * own.at.w;
      lines_read(net.level, net.warp_levels, net.features, net.tables[0], x, y, kept + seen.x * kLine);
      if (warp == 0) {
        *lines_row(kept, 2 * net.planes) = x, *lines_row(kept, 2 * net.planes + 1) = y;
        *lines_row(kept, seen.x + seen.inputs - 2) = 2.0f * x - 1.0f;
        *lines_row(kept, seen.x + seen.inputs - 1) = 2.0f * y - 1.0f;
      }
      for (int l = 0; l < net.warp_layers; ++l) lines_forward(net.layer[l], inputs, kept, shared);
      const float* const moved = lines_row(kept, net.layer[net.warp_layers - 1].y);
      for (int p = 0; p < net.planes; ++p) {
        float u, v;
        lines_place(net, own.at, p, moved, u, v);
        lines_read(net.level + net.warp_levels, net.levels, net.features, net.tables[1 + p], u, v,
                   kept + (second.x + p * net.each()) * kLine);
        if (warp == 0) *lines_row(kept, 2 * p) = u, *lines_row(kept, 2 * p + 1) = v;
      }
      for (int a = warp; a < net.ambient; a += kWarps)
        *lines_row(kept, second.x + net.planes * net.each() + a) = moved[(2 * net.planes + a) * kLine];
      for (int l = net.warp_layers; l < net.layers; ++l) lines_forward(net.layer[l], inputs, kept, shared);
      const float* const out = lines_row(kept, net.layer[net.layers - 1].y);
      const float opacity = own.mine ? planes_opacity(net.opacity_slope, out[colors * kLine]) : 0.0f;
      const float half = 0.5f / static_cast<float>(net.planes);
      for (int c = warp; written && c < colors; c += kWarps)
        args.segments[own.line * colors + c] = own.mine ? (out[c * kLine] + half) * opacity : 0.0f;
      if (written && warp == 0) args.opacity[own.line] = opacity;
    } else if (written) {
      for (int c = warp; c < colors; c += kWarps) args.segments[own.line * colors + c] = 0.0f;
      if (warp == 0) args.opacity[own.line] = 0.0f;
    }
  }
}

struct LinesBackParams {
  LinesDevice net;
  const float* lines;
  const uint8_t* inside;
  const float* inputs;
  const float* v_segments;
  const float* v_opacity;
  float* kept;
  float* v_lines;
  float* v_tables[kTables];
  float* sums;      // [parts][weights]
  float* rows;      // [parts][2][widest][32]
  float* v_frames;  // [F groups][C]
  int64_t frames, rays, groups;
  int weights, widest;
};

// The gradients of a layer's weights and biases, added to the block's sums: v_y [outputs][32] times inputs.
__device__ __forceinline__ void lines_weights(const LinesLayer& at, const float* inputs, const float* kept,
                                              const float* v_y, float* sums, bool begun,
                                              const LinesShared& shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int first = 0; first < at.outputs; first += kOutputs) {
    for (int stage = 0; stage < at.columns; stage += kStage) {
      __syncthreads();  // the former stage has been read
      for (int o = warp; o < kOutputs; o += kWarps)
        shared.left[o * kWide + lane] = first + o < at.outputs ? v_y[(first + o) * kLine + lane] : 0.0f;
      for (int k = warp; k < kStage; k += kWarps)
        shared.right[k * kWide + lane] = lines_input(at, kept, inputs, stage + k, lane);
      __syncthreads();  // the stage is there
      float sum[4][4] = {};
      const float* const left = shared.left + threadIdx.x / 8 * kWide;
      const float* const right = shared.right + threadIdx.x % 8 * kWide;
#pragma unroll 4
      for (int r = 0; r < kLine; ++r) {
        float b[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) b[j] = right[8 * j * kWide + r];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float a = left[16 * i * kWide + r];
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[i][j] += a * b[j];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int output = first + threadIdx.x / 8 + 16 * i;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int column = stage + threadIdx.x % 8 + 8 * j;
          if (output >= at.outputs || column >= at.columns) continue;
          float* const to = sums + at.v_weights + output * at.columns + column;
          *to = begun ? *to + sum[i][j] : sum[i][j];
        }
      }
      if (stage == 0 && threadIdx.x < kOutputs && first + threadIdx.x < at.outputs) {
        float sum_bias = 0;
        for (int r = 0; r < kLine; ++r) sum_bias += shared.left[threadIdx.x * kWide + r];
        float* const to = sums + at.v_bias + first + threadIdx.x;
        *to = begun ? *to + sum_bias : sum_bias;
      }
    }
  }
}

// The gradients of a layer's inputs, v_x [columns][32], from those of its outputs, v_y [outputs][32]; those
// of what a ReLU has cut off are zero.
__device__ __forceinline__ void lines_inputs(const LinesLayer& at, const float* kept, bool rectified,
                                             const float* v_y, float* v_x, const LinesShared& shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int first = 0; first < at.columns; first += kOutputs) {
    float sum[4][4] = {};
    for (int stage = 0; stage < at.outputs; stage += kStage) {
      __syncthreads();  // the former stage has been read
      for (int o = warp; o < kStage; o += kWarps) {
        const bool known = stage + o < at.outputs;
        const float* const row = at.weights + (stage + o) * at.columns + first + lane;
        shared.left[o * kRow + lane] = known && first + lane < at.columns ? __ldg(row) : 0.0f;
        shared.left[o * kRow + 32 + lane] = known && first + 32 + lane < at.columns ? __ldg(row + 32) : 0.0f;
        shared.right[o * kRight + lane] = known ? v_y[(stage + o) * kLine + lane] : 0.0f;
      }
      __syncthreads();  // the stage is there
      lines_multiply(shared, sum);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first + threadIdx.x / 8 + 16 * i;
      if (column >= at.columns) continue;
      const int place = column * kLine + 4 * (threadIdx.x % 8);
      float4 x = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
      if (rectified) x = *reinterpret_cast<const float4*>(kept + at.x * kLine + place);
      *reinterpret_cast<float4*>(v_x + place) =
          make_float4(x.x > 0.0f ? sum[i][0] : 0.0f, x.y > 0.0f ? sum[i][1] : 0.0f,
                      x.z > 0.0f ? sum[i][2] : 0.0f, x.w > 0.0f ? sum[i][3] : 0.0f);
    }
  }
  __syncthreads();  // the gradients are there
}

// Layers last ... first on the way back; returns where the gradients of the inputs are, which the frame's
// numbers are among, and leaves the others' place in v_x. A barrier comes before v_y is read.
__device__ __forceinline__ float* lines_back(const LinesBackParams& args, int first, int last,
                                             const float* inputs, const float* kept, float* sums, bool begun,
                                             float* v_y, float* v_x, float* v_frame, bool added,
                                             const LinesShared& shared) {
  for (int l = last; l >= first; --l) {
    lines_weights(args.net.layer[l], inputs, kept, v_y, sums, begun, shared);
    lines_inputs(args.net.layer[l], kept, l > first, v_y, v_x, shared);
    float* const made = v_x;
    v_x = v_y;
    v_y = made;
  }
  const LinesLayer& at = args.net.layer[first];
  for (int c = threadIdx.x / 32; c < args.net.frame; c += kWarps) {
    float sum = *lines_row(v_y, at.inputs + c);
    for (int offset = 16; offset; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    if (threadIdx.x % 32 == 0) v_frame[c] = added ? v_frame[c] + sum : sum;
  }
  return v_y;
}

// The way back through a grid: adds to its table's gradient, and gives each lane its point's, in all warps.
__device__ __forceinline__ void lines_grid_back(const PlanesLevel* levels, int count, int features,
                                                const float* table, float x, float y, const float* v_rows,
                                                bool mine, float* v_table, float* moves, float& v_x,
                                                float& v_y) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float sum_x = 0, sum_y = 0;
  for (int l = warp; mine && l < count; l += kWarps) {
    const PlanesCell cell = planes_cell(levels[l], x, y);
    float by_x = 0, by_y = 0;
    for (int f = 0; f < features; ++f) {
      const float v = v_rows[(l * features + f) * kLine + lane];
      float at[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int64_t entry = static_cast<int64_t>(cell.corner[c]) * features + f;
        at[c] = __ldg(table + entry);
        const float weight = (c % 2 ? cell.x : 1.0f - cell.x) * (c / 2 ? cell.y : 1.0f - cell.y);
        atomicAdd(v_table + entry, weight * v);
      }
      by_x += v * planes_between(at[1] - at[0], at[3] - at[2], cell.y);
      by_y += v * planes_between(at[2] - at[0], at[3] - at[1], cell.x);
    }
    sum_x += by_x * grid_slope(x, cell.x, levels[l].resolution, false);
    sum_y += by_y * grid_slope(y, cell.y, levels[l].resolution, false);
  }
  __syncthreads();  // the former moves have been read
  moves[2 * warp * kLine + lane] = sum_x, moves[(2 * warp + 1) * kLine + lane] = sum_y;
  __syncthreads();  // every warp's are there
  v_x = v_y = 0.0f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w)
    v_x += moves[2 * w * kLine + lane], v_y += moves[(2 * w + 1) * kLine + lane];
}

__global__ void __launch_bounds__(kThreads, kBlocks)
    lines_backward_kernel(const __grid_constant__ LinesBackParams args) {
  NLDF_DYNAMIC_SHARED(bytes);
  const LinesShared shared = lines_shared(bytes);
  const LinesDevice& net = args.net;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, colors = 3 * net.planes;
  float* const sums = args.sums + static_cast<int64_t>(blockIdx.x) * args.weights;
  float* const rows = args.rows + static_cast<int64_t>(blockIdx.x) * 2 * args.widest * kLine;
  bool begun = false;  // the sums hold something
  for (int64_t group = blockIdx.x; group < args.frames * args.groups; group += gridDim.x) {
    const LinesGroup own = lines_group(args.lines, args.inside, group, args.groups, args.rays);
    const bool written = group % args.groups * kLine + lane < args.rays;
    float* const v_frame = args.v_frames + group * net.frame;
    if (!own.any) {
      if (written && warp == 0)
        reinterpret_cast<float4*>(args.v_lines)[own.line] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      for (int c = threadIdx.x; c < net.frame; c += kThreads) v_frame[c] = 0.0f;
      continue;
    }
    const float* const kept = args.kept + group * net.rows * kLine;
    const float* const inputs = args.inputs + own.frame * net.frame;
    const LinesLayer& tail = net.layer[net.layers - 1];
    float *const v_a = rows, *const v_b = rows + args.widest * kLine;

    // From the colours back to the second network's inputs.
    if (warp == 0) {
      const float half = 0.5f / static_cast<float>(net.planes);
      const float* const out = kept + tail.y * kLine + lane;
      const float opacity = planes_opacity(net.opacity_slope, out[colors * kLine]);
      float v_opacity = own.mine ? args.v_opacity[own.line] : 0.0f;
      for (int c = 0; c < colors; ++c) {
        const float v = own.mine ? args.v_segments[own.line * colors + c] : 0.0f;
        v_opacity += v * (out[c * kLine] + half);
        *lines_row(v_a, c) = v * opacity;
      }
      *lines_row(v_a, colors) = v_opacity * net.opacity_slope * opacity * (1.0f - opacity);
    }
    float* const v_x = lines_back(args, net.warp_layers, net.layers - 1, inputs, kept, sums, begun, v_a, v_b,
                                  v_frame, false, shared);

    // Through the planes' grids to the warp net's outputs, into the other of the two.
    float* const v_warp = v_x == v_a ? v_b : v_a;
    float4 v_line = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int p = 0; p < net.planes; ++p) {
      float v_u, v_v;
      lines_grid_back(net.level + net.warp_levels, net.levels, net.features, net.tables[1 + p],
                      kept[2 * p * kLine + lane], kept[(2 * p + 1) * kLine + lane],
                      v_x + p * net.each() * kLine, own.mine, args.v_tables[1 + p], shared.moves, v_u, v_v);
      v_line.x += v_u, v_line.y += v_v;
      v_line.z += net.depths[p] * v_u, v_line.w += net.depths[p] * v_v;
      if (warp == 0) {
        *lines_row(v_warp, 2 * p) = net.warp_scale * v_u;
        *lines_row(v_warp, 2 * p + 1) = net.warp_scale * v_v;
      }
    }
    for (int a = warp; a < net.ambient; a += kWarps)
      *lines_row(v_warp, 2 * net.planes + a) = *lines_row(v_x, net.planes * net.each() + a);
    const float* const v_seen = lines_back(args, 0, net.warp_layers - 1, inputs, kept, sums, begun, v_warp,
                                           v_x, v_frame, true, shared);
    begun = true;

    const int seen = net.warp_levels * net.features, middle = 2 * net.planes;
    float v_u, v_v;
    lines_grid_back(net.level, net.warp_levels, net.features, net.tables[0], kept[middle * kLine + lane],
                    kept[(middle + 1) * kLine + lane], v_seen, own.mine, args.v_tables[0], shared.moves, v_u,
                    v_v);
    v_u += 2.0f * v_seen[seen * kLine + lane], v_v += 2.0f * v_seen[(seen + 1) * kLine + lane];
    v_line.x += v_u, v_line.y += v_v;
    v_line.z += net.depths[net.planes] * v_u, v_line.w += net.depths[net.planes] * v_v;
    if (written && warp == 0)
      reinterpret_cast<float4*>(args.v_lines)[own.line] =
          own.mine ? v_line : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    __syncthreads();  // the gradients have been read
  }
  for (int i = threadIdx.x; !begun && i < args.weights; i += kThreads) sums[i] = 0.0f;
}

struct LinesSums {
  const float* sums;
  const float* v_frames;
  float* v_weights;
  float* v_inputs;
  int64_t parts, weights, frames, groups, numbers;  // numbers of a frame
};

__global__ void __launch_bounds__(kThreads) lines_sums_kernel(const LinesSums args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t all = args.weights + args.frames * args.numbers;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all; i += step) {
    float sum = 0;
    if (i < args.weights) {
      for (int64_t part = 0; part < args.parts; ++part) sum += args.sums[part * args.weights + i];
      args.v_weights[i] = sum;
      continue;
    }
    const int64_t frame = (i - args.weights) / args.numbers, number = (i - args.weights) % args.numbers;
    for (int64_t g = 0; g < args.groups; ++g)
      sum += args.v_frames[(frame * args.groups + g) * args.numbers + number];
    args.v_inputs[i - args.weights] = sum;
  }
}

struct LinesCleared {
  float* values;
  int64_t size;
};
__global__ void __launch_bounds__(kThreads) lines_clear_kernel(const LinesCleared cleared) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < cleared.size; i += step)
    cleared.values[i] = 0.0f;
}

int64_t lines_groups(int64_t rays) {
  return (rays + kLine - 1) / kLine;
}

}  // namespace

void lines_cuda(const LinesArgs<float>& args, const Exec& exec) {
  const int64_t groups = lines_groups(args.rays), all = args.frames * groups;
  if (all == 0) return;
  const LinesParams params{lines_device(args.network),
                           args.lines,
                           args.inside,
                           args.inputs,
                           args.segments,
                           args.opacity,
                           args.kept,
                           args.frames,
                           args.rays,
                           groups};
  const int64_t blocks = std::min<int64_t>(all, 8 * multiprocessors(exec));
  launch_shape("lines", lines_kernel,
               {dim3(static_cast<unsigned>(blocks)), kThreads, layout_bytes<LinesLayout>()}, exec, params);
}

void lines_backward_cuda(const LinesBackwardArgs<float>& args, const Exec& exec) {
  const LinesNetwork& net = args.network;
  const int64_t groups = lines_groups(args.rays), all = args.frames * groups;
  const int64_t tables = lines_table(net, net.planes + 1), weights = lines_weights(net);
  const int64_t parts = std::min(all, args.parts);
  LinesBackParams params{lines_device(net),
                         args.lines,
                         args.inside,
                         args.inputs,
                         args.v_segments,
                         args.v_opacity,
                         args.kept,
                         args.v_lines,
                         {},
                         args.scratch,
                         nullptr,
                         nullptr,
                         args.frames,
                         args.rays,
                         groups,
                         static_cast<int>(weights),
                         static_cast<int>(lines_widest(net))};
  for (int64_t t = 0; t <= net.planes; ++t) params.v_tables[t] = args.v_parameters + lines_table(net, t);
  params.rows = params.sums + args.parts * weights;
  params.v_frames = params.rows + args.parts * 2 * params.widest * kLine;
  launch("lines_clear", lines_clear_kernel, {args.v_parameters, tables}, tables, kThreads, kThreads, exec);
  if (parts) {
    launch_shape("lines_backward", lines_backward_kernel,
                 {dim3(static_cast<unsigned>(parts)), kThreads, layout_bytes<LinesLayout>()}, exec, params);
  }
  launch("lines_sums", lines_sums_kernel,
         {params.sums, params.v_frames, args.v_parameters + tables, args.v_inputs, parts, weights,
          args.frames, groups, net.frame},
         weights + args.frames * net.frame, kThreads, kThreads, exec);
}

}  // namespace nldf
