#include "core/access.cuh"
#include "core/launch.cuh"
#include "ops/grid.h"

namespace nldf {

namespace {
constexpr int kThreads = 256;
// Lanes that share a point's gradient, each taking every fourth level.
constexpr int kLanes = 4;
constexpr unsigned kAll = 0xffffffffu;

// A point's cell in one level. Placed: of a grid with a placing.
template <int D, bool Placed>
struct Cell {
  uint32_t lower[D];  // coordinates times strides
  float upper[D];     // weights of the upper vertices
  float slope[D];     // their derivatives by the coordinates
  bool seen;          // whether a placed point sees anything
};
template <int D, bool Placed>
__device__ void find_cell(const float* x, const GridLevel& level, bool smooth, Cell<D, Placed>& found) {
  if constexpr (Placed) found.seen = true;
#pragma unroll
  for (int d = 0; d < D; ++d) {
    int32_t cell;
    float fraction;
    if constexpr (Placed) {
      if (!grid_place(x[d], level, cell, fraction)) found.seen = false;
      found.slope[d] = grid_place_slope(x[d], fraction, level, smooth);
    } else {
      grid_locate(x[d], level.resolution, cell, fraction);
      found.slope[d] = grid_slope(x[d], fraction, level.resolution, smooth);
    }
    found.lower[d] = static_cast<uint32_t>(cell) * level.stride[d];
    found.upper[d] = grid_weight(fraction, smooth);
  }
}
// Corner c is the upper one along dimension d where bit d of c is set.
template <int D, bool Placed>
__device__ int64_t corner_entry(const Cell<D, Placed>& cell, const GridLevel& level, int c) {
  uint32_t index = cell.lower[0] + (c & 1 ? level.stride[0] : 0u);
#pragma unroll
  for (int d = 1; d < D; ++d) {
    index = grid_join(index, cell.lower[d] + (c >> d & 1 ? level.stride[d] : 0u), level.hashed);
  }
  if constexpr (Placed) return level.offset + grid_fold(index, level);
  return level.offset + (level.hashed ? index & level.mask : index);
}
// The product of the weights along all dimensions but `except`.
template <int D, bool Placed>
__device__ float corner_weight(const Cell<D, Placed>& cell, int c, int except) {
  if constexpr (Placed) {
    if (!cell.seen) return 0.0f;
  }
  float weight = 1;
#pragma unroll
  for (int d = 0; d < D; ++d) {
    if (d != except) weight *= c >> d & 1 ? cell.upper[d] : 1.0f - cell.upper[d];
  }
  return weight;
}

template <class Args>
struct GridLaunch {
  Args args;
  GridLevels levels;
};

// Calls each(cell, level, feature, place) with one thread a point, level and W features: those from `feature`
// on, which lie at `place` of the points' rows. Levels go along y, so that the blocks that run at one time
// mostly share a level's entries.
template <int D, int W, bool Placed, class Args, class Each>
__device__ void over_items(const GridLaunch<Args>& a, const Each& each) {
  const GridLevel& level = a.levels.level[blockIdx.y];
  const int features = static_cast<int>(a.args.features), groups = features / W;
  const int64_t row = a.args.levels * features, items = a.args.points * groups;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < items; i += step) {
    const int64_t point = i / groups;
    const int feature = static_cast<int>(i % groups) * W;
    Cell<D, Placed> cell;
    find_cell(a.args.x + point * D, level, a.args.smooth != 0, cell);
    each(cell, level, feature, point * row + blockIdx.y * features + feature);
  }
}

template <int D, int W, bool Placed>
__global__ void __launch_bounds__(kThreads) grid_kernel(const GridLaunch<GridArgs<float>> a) {
  const GridArgs<float>& args = a.args;
  const int features = static_cast<int>(args.features);
  over_items<D, W, Placed>(a, [&](const auto& cell, const GridLevel& level, int feature, int64_t place) {
    Floats<W> sum{};
#pragma unroll
    for (int c = 0; c < (1 << D); ++c) {
      const Floats<W> entry = load<W>(args.table + corner_entry(cell, level, c) * features + feature);
      const float weight = corner_weight(cell, c, -1);
#pragma unroll
      for (int f = 0; f < W; ++f) sum.value[f] += weight * entry.value[f];
    }
    store(args.out + place, sum);
  });
}

struct Cleared {
  float* values;
  int64_t size;
};
__global__ void __launch_bounds__(kThreads) grid_clear_kernel(const Cleared cleared) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < cleared.size; i += step) {
    cleared.values[i] = 0;
  }
}

// Where the device adds as many floats at once (capability 9.0), a thread's W are one atomic addition.
template <int D, int W, bool Placed>
__global__ void __launch_bounds__(kThreads) grid_table_kernel(const GridLaunch<GridBackwardArgs<float>> a) {
  const GridBackwardArgs<float>& args = a.args;
  const int features = static_cast<int>(args.features);
  over_items<D, W, Placed>(a, [&](const auto& cell, const GridLevel& level, int feature, int64_t place) {
    const Floats<W> v = load<W>(args.v_out + place);
#pragma unroll
    for (int c = 0; c < (1 << D); ++c) {
      const float weight = corner_weight(cell, c, -1);
      Floats<W> added;
#pragma unroll
      for (int f = 0; f < W; ++f) added.value[f] = weight * v.value[f];
      add_atomically(args.v_table + corner_entry(cell, level, c) * features + feature, added);
    }
  });
}

// kLanes threads a point. Every thread walks the same loops, because shuffles need the whole warp; `valid`
// guards memory. Asking for 2 blocks a multiprocessor lets ptxas take the registers that it would rather
// spill.
template <int D, int W, bool Placed>
__global__ void __launch_bounds__(kThreads, 2)
    grid_points_kernel(const GridLaunch<GridBackwardArgs<float>> a) {
  const GridBackwardArgs<float>& args = a.args;
  const int features = static_cast<int>(args.features), lane = threadIdx.x % kLanes;
  const int64_t row = args.levels * features;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kThreads / kLanes);
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes); base < args.points;
       base += step) {
    const int64_t point = base + threadIdx.x / kLanes;
    const bool valid = point < args.points;
    float sums[D] = {};
    for (int l = lane; valid && l < args.levels; l += kLanes) {
      const GridLevel& level = a.levels.level[l];
      Cell<D, Placed> cell;
      find_cell(args.x + point * D, level, args.smooth != 0, cell);
      const float* v_out = args.v_out + point * row + l * features;
#pragma unroll
      for (int c = 0; c < (1 << D); ++c) {
        const float* entries = args.table + corner_entry(cell, level, c) * features;
        float dot = 0;
        for (int feature = 0; feature < features; feature += W) {
          const Floats<W> entry = load<W>(entries + feature), v = load<W>(v_out + feature);
#pragma unroll
          for (int f = 0; f < W; ++f) dot += v.value[f] * entry.value[f];
        }
#pragma unroll
        for (int d = 0; d < D; ++d) {
          sums[d] += (c >> d & 1 ? dot : -dot) * cell.slope[d] * corner_weight(cell, c, d);
        }
      }
    }
#pragma unroll
    for (int d = 0; d < D; ++d) {
      float sum = sums[d];
#pragma unroll
      for (int offset = kLanes / 2; offset; offset /= 2) {
        sum += __shfl_xor_sync(kAll, sum, offset, kLanes);
      }
      if (valid && lane == 0) args.v_x[point * D + d] = sum;
    }
  }
}

template <class Args>
void launch_levels(const char* name, void (*kernel)(GridLaunch<Args>), const GridLaunch<Args>& launched,
                   int64_t items, int64_t levels, int items_per_block, const Exec& exec) {
  if (items == 0) return;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks = std::min((items + items_per_block - 1) / items_per_block, kMostBlocks);
  launch_shape(name, kernel, {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(levels)), kThreads},
               exec, launched);
}

template <int D, bool Placed>
void grid_dims(const GridArgs<float>& args, const Exec& exec) {
  using Kernel = void (*)(GridLaunch<GridArgs<float>>);
  const int width = access_width(args.features, 4, {args.table, args.out});
  const Kernel kernel = width == 4   ? grid_kernel<D, 4, Placed>
                        : width == 2 ? grid_kernel<D, 2, Placed>
                                     : grid_kernel<D, 1, Placed>;
  const GridLaunch<GridArgs<float>> launched{
      args, make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims, args.placing)};
  launch_levels("grid", kernel, launched, args.points * (args.features / width), args.levels, kThreads, exec);
}

template <int D, bool Placed>
void grid_backward_dims(const GridBackwardArgs<float>& args, const Exec& exec) {
  using Kernel = void (*)(GridLaunch<GridBackwardArgs<float>>);
  const GridLaunch<GridBackwardArgs<float>> launched{
      args, make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims, args.placing)};
  if (args.v_table) {
    const Cleared cleared{args.v_table, args.offsets[args.levels] * args.features};
    launch("grid_clear", grid_clear_kernel, cleared, cleared.size, kThreads, kThreads, exec);
    const int width = access_width(args.features, 4, {args.v_out, args.v_table});
    const Kernel kernel = width == 4   ? grid_table_kernel<D, 4, Placed>
                          : width == 2 ? grid_table_kernel<D, 2, Placed>
                                       : grid_table_kernel<D, 1, Placed>;
    launch_levels("grid_backward", kernel, launched, args.points * (args.features / width), args.levels,
                  kThreads, exec);
  }
  if (args.v_x) {
    const int width = access_width(args.features, 4, {args.table, args.v_out});
    const Kernel kernel = width == 4   ? grid_points_kernel<D, 4, Placed>
                          : width == 2 ? grid_points_kernel<D, 2, Placed>
                                       : grid_points_kernel<D, 1, Placed>;
    launch_levels("grid_backward", kernel, launched, args.points, 1, kThreads / kLanes, exec);
  }
}
}  // namespace

void grid_cuda(const GridArgs<float>& args, const Exec& exec) {
  const bool placed = args.placing.scales != nullptr;
  if (args.dims == 2) {
    return placed ? grid_dims<2, true>(args, exec) : grid_dims<2, false>(args, exec);
  }
  if (args.dims == 3) {
    return placed ? grid_dims<3, true>(args, exec) : grid_dims<3, false>(args, exec);
  }
  return placed ? grid_dims<4, true>(args, exec) : grid_dims<4, false>(args, exec);
}

void grid_backward_cuda(const GridBackwardArgs<float>& args, const Exec& exec) {
  const bool placed = args.placing.scales != nullptr;
  if (args.dims == 2) {
    return placed ? grid_backward_dims<2, true>(args, exec) : grid_backward_dims<2, false>(args, exec);
  }
  if (args.dims == 3) {
    return placed ? grid_backward_dims<3, true>(args, exec) : grid_backward_dims<3, false>(args, exec);
  }
  return placed ? grid_backward_dims<4, true>(args, exec) : grid_backward_dims<4, false>(args, exec);
}

}  // namespace nldf
