// Multiresolution grids of features: points to interpolated features, one level after another; the only
// place this mathematics lives.
//
// A level of resolution r has r vertices along every axis of [0, 1]^D: vertex k lies at k / (r - 1).
// Coordinates outside are clamped to the border, where the gradient with respect to them is zero. NaN stays
// NaN, and reads inside the table. Where r^D exceeds the cap a level is hashed: vertices share the entries,
// by the hash of Instant-NGP (Mueller et al. 2022), eq. (4): the coordinates times large primes, xor-ed.
//
// A placing departs from this where other programs' tables do: vertices lie elsewhere than at k / (r - 1),
// large levels are tiled and not hashed, and points outside are answered otherwise. Levels without one keep
// their own code, to the bit.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr int kGridDims = 4;
constexpr int kGridLevels = 32;
constexpr int kGridFeatures = 8;
// The first is 1, so that neighbours along x share a cache line; the next two are the paper's, which names no
// fourth: that is the placing's.
constexpr uint32_t kGridPrimes[3] = {1u, 2654435761u, 805459861u};

// What a point outside of [0, 1]^D is answered.
enum GridBorder : int64_t {
  kGridClamp,  // as the nearest point inside
  kGridZero,   // zeros
  kGridWrap,   // cells go on, and entries repeat
};

struct GridPlacing {
  NLDF_FIELDS((const double*, scales),   // [levels] cells a unit, on the host; null for r - 1 and no more
              (double, shift),           // cells between the first vertex and the point 0
              (int64_t, border),         // a GridBorder
              (int64_t, tiled),          // 1: large levels are tiled instead of hashed
              (int64_t, fourth_prime));  // of the hash
};

template <class T>
struct GridArgs {
  NLDF_FIELDS((const T*, x),                  // [N, D]
              (const T*, table),              // [offsets[levels], features]
              (T*, out),                      // [N, levels * features]
              (const int64_t*, resolutions),  // [levels], on the host
              (const int64_t*, offsets),      // [levels + 1] in entries, on the host
              (int64_t, points),              // N
              (int64_t, dims),                // D, 2 to 4
              (int64_t, levels),              // at most kGridLevels
              (int64_t, features),            // at most kGridFeatures
              (int64_t, smooth),              // 1: smoothstep instead of linear interpolation
              (GridPlacing, placing));
};

template <class T>
struct GridBackwardArgs {
  NLDF_FIELDS((const T*, x),                  // [N, D]
              (const T*, table),              // [offsets[levels], features]
              (const T*, v_out),              // [N, levels * features]
              (T*, v_x),                      // [N, D], or null where not wanted
              (T*, v_table),                  // [offsets[levels], features], or null
              (const int64_t*, resolutions),  // the rest is as in GridArgs
              (const int64_t*, offsets), (int64_t, points), (int64_t, dims), (int64_t, levels),
              (int64_t, features), (int64_t, smooth), (GridPlacing, placing));
};

// What the entries of a level are found by. A vertex's entry is the sum (dense) or the masked exclusive or
// (hashed) of its coordinates' products with the strides, in 32 bits.
struct GridLevel {
  int64_t offset;              // of the level's first entry
  int64_t entries;             // how many it has
  uint32_t stride[kGridDims];  // powers of the resolution, or primes
  uint32_t mask;               // entries - 1 where hashed
  int32_t resolution;
  bool hashed;
  // Of a placing.
  bool folded;  // indices may pass the last entry: they are taken modulo the entries
  double scale, shift;
  GridBorder border;
};

// Every level, by value, so that it can be handed to a CUDA kernel.
struct GridLevels {
  GridLevel level[kGridLevels];
};

inline GridLevels make_grid_levels(const int64_t* resolutions, const int64_t* offsets, int64_t levels,
                                   int64_t dims, const GridPlacing& placing = {}) {
  GridLevels made{};
  for (int64_t i = 0; i < levels; ++i) {
    GridLevel& level = made.level[i];
    level.offset = offsets[i];
    level.entries = offsets[i + 1] - offsets[i];
    level.resolution = static_cast<int32_t>(resolutions[i]);
    // Only hashed levels have fewer entries than vertices; the product stops before it could overflow.
    int64_t vertices = 1;
    for (int64_t d = 0; d < dims && vertices <= level.entries; ++d) vertices *= resolutions[i];
    const bool shared = vertices > level.entries;
    level.hashed = shared && !placing.tiled;
    level.mask = static_cast<uint32_t>(level.entries - 1);
    uint32_t power = 1;
    for (int d = 0; d < kGridDims; ++d) {
      const uint32_t prime = d < 3 ? kGridPrimes[d] : static_cast<uint32_t>(placing.fourth_prime);
      level.stride[d] = level.hashed ? prime : power;
      power *= static_cast<uint32_t>(resolutions[i]);
    }
    level.folded = shared || placing.border == kGridWrap;
    level.scale = placing.scales ? placing.scales[i] : static_cast<double>(resolutions[i] - 1);
    level.shift = placing.shift;
    level.border = static_cast<GridBorder>(placing.border);
    if (!shared || level.hashed) continue;
    // Tiled: an axis whose stride passes the last entry is left out, and so are those behind it.
    int64_t stride = 1;
    for (int d = 0; d < kGridDims; ++d) {
      level.stride[d] = stride <= level.entries ? static_cast<uint32_t>(stride) : 0u;
      stride *= stride <= level.entries ? resolutions[i] : 1;
    }
  }
  return made;
}

// One coordinate to its cell, 0 to r - 2, and the fraction in it, 0 to 1.
template <class T>
NLDF_HD void grid_locate(T x, int32_t resolution, int32_t& cell, T& fraction) {
  const T clamped = x < T(0) ? T(0) : (x > T(1) ? T(1) : x);
  const T position = clamped * static_cast<T>(resolution - 1);
  const T last = static_cast<T>(resolution - 2);
  // The comparisons are written so that NaN gives cell 0.
  const T held = position > T(0) ? (position < last ? position : last) : T(0);
  cell = static_cast<int32_t>(held);
  fraction = position - static_cast<T>(cell);
}

// The weight of the upper vertex along one axis, and its derivative by the coordinate.
template <class T>
NLDF_HD T grid_weight(T fraction, bool smooth) {
  return smooth ? fraction * fraction * (T(3) - T(2) * fraction) : fraction;
}
template <class T>
NLDF_HD T grid_slope(T x, T fraction, int32_t resolution, bool smooth) {
  const T scale = static_cast<T>(resolution - 1);
  const T slope = smooth ? scale * T(6) * fraction * (T(1) - fraction) : scale;
  return x >= T(0) && x <= T(1) ? slope : T(0);
}

// A coordinate's cell, the fraction in it, and whether the coordinate lets its point see anything, in a level
// with a placing. Cells of the wrapping border may be negative; so far outside that a cell has no number of
// 32 bits, nothing is between vertices. NaN stays NaN, in the first cell.
template <class T>
NLDF_HD bool grid_place(T x, const GridLevel& level, int32_t& cell, T& fraction) {
  const bool inside = !(x < T(0)) && !(x > T(1));
  const bool wraps = level.border == kGridWrap;
  const T from = wraps || inside ? x : (x < T(0) ? T(0) : T(1));
  const T position = from * static_cast<T>(level.scale) + static_cast<T>(level.shift);
  const T first = wraps ? T(-(1 << 30)) : T(0);
  const T last = wraps ? T(1 << 30) : static_cast<T>(level.resolution - 2);
  const T held = position > first ? (position < last ? position : last) : first;
  cell = static_cast<int32_t>(held);
  cell -= static_cast<T>(cell) > held;
  // With wrapping, what was held is no place of the point's any more.
  fraction = wraps && held != position ? position - position : position - static_cast<T>(cell);
  return inside || level.border != kGridZero;
}
// The derivative of the upper vertex's weight by the coordinate, in a level with a placing.
template <class T>
NLDF_HD T grid_place_slope(T x, T fraction, const GridLevel& level, bool smooth) {
  const T scale = static_cast<T>(level.scale);
  const T slope = smooth ? scale * T(6) * fraction * (T(1) - fraction) : scale;
  return level.border == kGridWrap || (x >= T(0) && x <= T(1)) ? slope : T(0);
}

// Joins the products of coordinates and strides; a hashed level's join is masked at the end.
NLDF_HD uint32_t grid_join(uint32_t a, uint32_t b, bool hashed) {
  return hashed ? a ^ b : a + b;
}

// An index in a level with a placing: the remainder by the entries where it may pass the last one. Hashed and
// tiled levels have a power of two of them.
NLDF_HD uint32_t grid_fold(uint32_t index, const GridLevel& level) {
  const uint32_t entries = level.mask + 1;
  if (!level.folded) return index;
  return level.mask & entries ? index % entries : index & level.mask;
}

template <class T>
void grid_cpu(const GridArgs<T>& args, const Exec& exec);
template <class T>
void grid_backward_cpu(const GridBackwardArgs<T>& args, const Exec& exec);
void grid_cuda(const GridArgs<float>& args, const Exec& exec);
void grid_backward_cuda(const GridBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
