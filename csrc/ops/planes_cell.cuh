// Where a point lies in a two-dimensional level of a grid, for CUDA kernels.
#pragma once

#include "core/launch.cuh"
#include "ops/grid.h"

namespace nldf {

// A two-dimensional level: entry (x + y * stride), or ((x ^ y * stride) & mask) where hashed.
struct alignas(16) PlanesLevel {
  uint32_t offset, stride, mask;  // mask: all ones where not hashed
  int32_t resolution;
};

// The levels of a grid, into made[0 .. levels - 1].
inline void planes_levels(const int64_t* resolutions, const int64_t* offsets, int64_t levels,
                          PlanesLevel* made) {
  const GridLevels from = make_grid_levels(resolutions, offsets, levels, 2);
  for (int64_t l = 0; l < levels; ++l) {
    const GridLevel& level = from.level[l];
    made[l] = {static_cast<uint32_t>(level.offset), level.stride[1], level.hashed ? level.mask : ~0u,
               level.resolution};
  }
}

// The corners of a point's cell in a level's table, and how far the point is in it.
struct PlanesCell {
  uint32_t corner[4];
  float x, y;
};
__device__ __forceinline__ PlanesCell planes_cell(const PlanesLevel& level, float x, float y) {
  PlanesCell cell;
  int32_t column, row;
  grid_locate(x, level.resolution, column, cell.x);
  grid_locate(y, level.resolution, row, cell.y);
  const bool hashed = level.mask != ~0u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t a = static_cast<uint32_t>(column) + i % 2;
    const uint32_t b = (static_cast<uint32_t>(row) + i / 2) * level.stride;
    cell.corner[i] = level.offset + (grid_join(a, b, hashed) & level.mask);
  }
  return cell;
}
__device__ __forceinline__ float planes_between(float low, float high, float where) {
  return low + where * (high - low);
}
__device__ __forceinline__ float planes_mix(const PlanesCell& cell, float a, float b, float c, float d) {
  return planes_between(planes_between(a, b, cell.x), planes_between(c, d, cell.x), cell.y);
}

}  // namespace nldf
