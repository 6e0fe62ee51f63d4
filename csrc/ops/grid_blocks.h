// The CPU's side of grid.h: blocks of points as vectors.
//
// First the entries and weights of a block's corners, as vectors over points; then the features, as vectors
// over features, one corner after another. Everything is inlined into its caller, so that it is compiled for
// the instructions that the caller is.
#pragma once

#include <algorithm>
#include <cstring>

#include "ops/grid.h"

#ifdef __GNUC__
#define NLDF_INLINE inline __attribute__((always_inline))
#else
#define NLDF_INLINE inline
#endif

namespace nldf {

constexpr int kGridBlock = 64;
// Levels are outermost within a tile of points, so that one level's entries stay in the cache.
constexpr int kGridTile = 1024;

// The corners of the cells around a block of points. Corner c is the upper one along dimension d where
// bit d of c is set.
template <class T, int D>
struct GridCorners {
  uint32_t index[1 << D][kGridBlock];
  T weight[1 << D][kGridBlock];
  T upper[D][kGridBlock];  // weight along one dimension
  T slope[D][kGridBlock];  // its derivative by the coordinate
};

// As `grid_find_corners`, in a level with a placing. Points that see nothing have weights and slopes of zero.
template <class T, int D, bool Slopes>
NLDF_INLINE void grid_place_corners(const T* x, int count, const GridLevel& level, bool smooth,
                                    GridCorners<T, D>& corners) {
  uint32_t lower[D][kGridBlock];
  bool seen[kGridBlock];
  for (int i = 0; i < count; ++i) seen[i] = true;
  for (int d = 0; d < D; ++d) {
    NLDF_LANES
    for (int i = 0; i < count; ++i) {
      int32_t cell;
      T fraction;
      const bool sees = grid_place(x[i * D + d], level, cell, fraction);
      seen[i] = seen[i] && sees;
      lower[d][i] = static_cast<uint32_t>(cell) * level.stride[d];
      corners.upper[d][i] = grid_weight(fraction, smooth);
      if (Slopes) corners.slope[d][i] = grid_place_slope(x[i * D + d], fraction, level, smooth);
    }
  }
  for (int c = 0; c < (1 << D); ++c) {
    NLDF_LANES
    for (int i = 0; i < count; ++i) {
      uint32_t index = 0;
      T weight = 1;
      for (int d = 0; d < D; ++d) {
        const bool above = c >> d & 1;
        index = grid_join(index, lower[d][i] + (above ? level.stride[d] : 0u), level.hashed);
        weight *= above ? corners.upper[d][i] : T(1) - corners.upper[d][i];
      }
      corners.index[c][i] = index;
      corners.weight[c][i] = seen[i] ? weight : T(0);
    }
    for (int i = 0; i < count; ++i) corners.index[c][i] = grid_fold(corners.index[c][i], level);
  }
  if (!Slopes) return;
  for (int d = 0; d < D; ++d) {
    for (int i = 0; i < count; ++i) corners.slope[d][i] = seen[i] ? corners.slope[d][i] : T(0);
  }
}

template <class T, int D, bool Slopes>
NLDF_INLINE void grid_find_corners(const T* x, int count, const GridLevel& level, bool smooth,
                                   GridCorners<T, D>& corners) {
  const bool hashed = level.hashed;
  for (int d = 0; d < D; ++d) {
    const int half = 1 << d;
    const uint32_t stride = level.stride[d];
    const int32_t resolution = level.resolution;
    uint32_t lower[kGridBlock];
    T* const upper = corners.upper[d];
    T* const slope = corners.slope[d];
    NLDF_LANES
    for (int i = 0; i < count; ++i) {
      int32_t cell;
      T fraction;
      grid_locate(x[i * D + d], resolution, cell, fraction);
      lower[i] = static_cast<uint32_t>(cell) * stride;
      upper[i] = grid_weight(fraction, smooth);
      if (Slopes) slope[i] = grid_slope(x[i * D + d], fraction, resolution, smooth);
    }
    if (d == 0) {
      NLDF_LANES
      for (int i = 0; i < count; ++i) {
        corners.index[0][i] = lower[i];
        corners.index[1][i] = lower[i] + stride;
        corners.weight[0][i] = T(1) - upper[i];
        corners.weight[1][i] = upper[i];
      }
      continue;
    }
    // Every further dimension doubles the corners.
    for (int c = 0; c < half; ++c) {
      uint32_t* const index = corners.index[c];
      uint32_t* const index_above = corners.index[c + half];
      T* const weight = corners.weight[c];
      T* const weight_above = corners.weight[c + half];
      NLDF_LANES
      for (int i = 0; i < count; ++i) {
        index_above[i] = grid_join(index[i], lower[i] + stride, hashed);
        index[i] = grid_join(index[i], lower[i], hashed);
      }
      NLDF_LANES
      for (int i = 0; i < count; ++i) {
        weight_above[i] = weight[i] * upper[i];
        weight[i] -= weight_above[i];
      }
    }
  }
  if (hashed) {
    for (int c = 0; c < (1 << D); ++c) {
      uint32_t* const index = corners.index[c];
      NLDF_LANES
      for (int i = 0; i < count; ++i) index[i] &= level.mask;
    }
  }
}

// The corners of a block of an operation's points. Placed: of a grid with a placing.
template <class T, int D, bool Slopes, bool Placed, class Args>
NLDF_INLINE void grid_corners(const Args& args, const T* x, int count, const GridLevel& level,
                              GridCorners<T, D>& corners) {
  if constexpr (Placed) {
    grid_place_corners<T, D, Slopes>(x, count, level, args.smooth != 0, corners);
  } else {
    grid_find_corners<T, D, Slopes>(x, count, level, args.smooth != 0, corners);
  }
}

// The features of one entry. F is their number where the code is compiled for it, and 0 otherwise.
template <class T, int F>
struct GridFeatures {
  typedef T Vector __attribute__((vector_size(F * sizeof(T))));
  Vector value;
  NLDF_INLINE void load(const T* from, int) { std::memcpy(&value, from, sizeof(value)); }
  NLDF_INLINE void store(T* to, int) const { std::memcpy(to, &value, sizeof(value)); }
  NLDF_INLINE void clear() { value = Vector{}; }
  NLDF_INLINE void add(const GridFeatures& other, T weight, int) { value += other.value * weight; }
  NLDF_INLINE T dot(const GridFeatures& other, int) const {
    const Vector product = value * other.value;
    T sum = 0;
    for (int f = 0; f < F; ++f) sum += product[f];
    return sum;
  }
};
template <class T>
struct GridFeatures<T, 0> {
  T value[kGridFeatures];
  NLDF_INLINE void load(const T* from, int count) {
    for (int f = 0; f < count; ++f) value[f] = from[f];
  }
  NLDF_INLINE void store(T* to, int count) const {
    for (int f = 0; f < count; ++f) to[f] = value[f];
  }
  NLDF_INLINE void clear() {
    for (T& v : value) v = 0;
  }
  NLDF_INLINE void add(const GridFeatures& other, T weight, int count) {
    for (int f = 0; f < count; ++f) value[f] += other.value[f] * weight;
  }
  NLDF_INLINE T dot(const GridFeatures& other, int count) const {
    T sum = 0;
    for (int f = 0; f < count; ++f) sum += value[f] * other.value[f];
    return sum;
  }
};
template <class T>
struct GridFeatures<T, 1> {
  T value;
  NLDF_INLINE void load(const T* from, int) { value = *from; }
  NLDF_INLINE void store(T* to, int) const { *to = value; }
  NLDF_INLINE void clear() { value = 0; }
  NLDF_INLINE void add(const GridFeatures& other, T weight, int) { value += other.value * weight; }
  NLDF_INLINE T dot(const GridFeatures& other, int) const { return value * other.value; }
};

// What a kernel below is called with: the points begin to end, of one level or of all.
template <class T>
struct GridEncodeJob {
  const GridArgs<T>* args;
  const GridLevels* levels;
  int64_t begin, end;
};
template <class T>
struct GridTableJob {
  const GridBackwardArgs<T>* args;
  const GridLevel* level;
  const T* v_out;  // the level's first column
  T* into;         // [entries, features]
  int64_t begin, end;
};
template <class T>
struct GridPointJob {
  const GridBackwardArgs<T>* args;
  const GridLevels* levels;
  int64_t begin, end;  // at most kGridTile points
};

template <class T, int D, int F, bool Placed>
struct GridEncode {
  using Job = GridEncodeJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    GridCorners<T, D> corners;
    for (int64_t l = 0; l < args.levels; ++l) {
      const GridLevel& level = job.levels->level[l];
      const T* const table = args.table + level.offset * features;
      for (int64_t begin = job.begin; begin < job.end; begin += kGridBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kGridBlock, job.end - begin));
        grid_corners<T, D, false, Placed>(args, args.x + begin * D, count, level, corners);
        T* out = args.out + begin * row + l * features;
        for (int i = 0; i < count; ++i, out += row) {
          GridFeatures<T, F> sum, entry;
          sum.clear();
          for (int c = 0; c < (1 << D); ++c) {
            entry.load(table + static_cast<size_t>(corners.index[c][i]) * features, features);
            sum.add(entry, corners.weight[c][i], features);
          }
          sum.store(out, features);
        }
      }
    }
  }
};

// Adds one level's gradient of a range of points, in their order, to `into`.
template <class T, int D, int F, bool Placed>
struct GridTableGradient {
  using Job = GridTableJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridBackwardArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    GridCorners<T, D> corners;
    for (int64_t begin = job.begin; begin < job.end; begin += kGridBlock) {
      const int count = static_cast<int>(std::min<int64_t>(kGridBlock, job.end - begin));
      grid_corners<T, D, false, Placed>(args, args.x + begin * D, count, *job.level, corners);
      const T* v_out = job.v_out + begin * row;
      for (int i = 0; i < count; ++i, v_out += row) {
        GridFeatures<T, F> v, entry;
        v.load(v_out, features);
        for (int c = 0; c < (1 << D); ++c) {
          T* const at = job.into + static_cast<size_t>(corners.index[c][i]) * features;
          entry.load(at, features);
          entry.add(v, corners.weight[c][i], features);
          entry.store(at, features);
        }
      }
    }
  }
};

// The gradient with respect to the points.
template <class T, int D, int F, bool Placed>
struct GridPointGradient {
  using Job = GridPointJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridBackwardArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    GridCorners<T, D> corners;
    T dots[1 << D][kGridBlock];
    T v_x[D][kGridTile] = {};
    for (int64_t l = 0; l < args.levels; ++l) {
      const GridLevel& level = job.levels->level[l];
      const T* const table = args.table + level.offset * features;
      for (int64_t begin = job.begin; begin < job.end; begin += kGridBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kGridBlock, job.end - begin));
        grid_corners<T, D, true, Placed>(args, args.x + begin * D, count, level, corners);
        const T* v_out = args.v_out + begin * row + l * features;
        for (int i = 0; i < count; ++i, v_out += row) {
          GridFeatures<T, F> v, entry;
          v.load(v_out, features);
          for (int c = 0; c < (1 << D); ++c) {
            entry.load(table + static_cast<size_t>(corners.index[c][i]) * features, features);
            dots[c][i] = v.dot(entry, features);
          }
        }
        // Along d: the dots of the upper corners minus those of the lower, weighted along the rest.
        for (int d = 0; d < D; ++d) {
          T* const sums = v_x[d] + (begin - job.begin);
          for (int c = 0; c < (1 << D); ++c) {
            if (c >> d & 1) continue;
            T factors[kGridBlock];
            NLDF_LANES
            for (int i = 0; i < count; ++i) {
              factors[i] = corners.slope[d][i] * (dots[c | 1 << d][i] - dots[c][i]);
            }
            for (int e = 0; e < D; ++e) {
              const T* const upper = corners.upper[e];
              if (e == d) continue;
              const bool above = c >> e & 1;
              NLDF_LANES
              for (int i = 0; i < count; ++i) factors[i] *= above ? upper[i] : T(1) - upper[i];
            }
            NLDF_LANES
            for (int i = 0; i < count; ++i) sums[i] += factors[i];
          }
        }
      }
    }
    for (int64_t n = job.begin; n < job.end; ++n) {
      for (int d = 0; d < D; ++d) args.v_x[n * D + d] = v_x[d][n - job.begin];
    }
  }
};

}  // namespace nldf
