// Points go in blocks: first the entries and weights of a block's corners, as vectors over points; then the
// features, as vectors over features, one corner after another.
//
// Levels are outermost within a tile of points, so that one level's entries stay in the cache.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "grid.h"

#ifdef __GNUC__
#define NLDF_INLINE inline __attribute__((always_inline))
#else
#define NLDF_INLINE inline
#endif

// The module is built for the oldest x86-64; where the machine knows AVX2, the same code compiled for it
// runs.
#if defined(__GNUC__) && defined(__x86_64__)
#define NLDF_HAS_AVX2 __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
#define NLDF_AVX2 __attribute__((target("avx2,fma")))
#else
#define NLDF_HAS_AVX2 false
#define NLDF_AVX2
#endif

namespace nldf {
namespace {

constexpr int kBlock = 64;
constexpr int kTile = 1024;

// The corners of the cells around a block of points. Corner c is the upper one along dimension d where
// bit d of c is set.
template <class T, int D>
struct Corners {
  uint32_t index[1 << D][kBlock];
  T weight[1 << D][kBlock];
  T upper[D][kBlock];  // weight along one dimension
  T slope[D][kBlock];  // its derivative by the coordinate
};

template <class T, int D, bool Slopes>
NLDF_INLINE void find_corners(const T* x, int count, const GridLevel& level, bool smooth,
                              Corners<T, D>& corners) {
  const bool hashed = level.hashed;
  for (int d = 0; d < D; ++d) {
    const int half = 1 << d;
    const uint32_t stride = level.stride[d];
    const int32_t resolution = level.resolution;
    uint32_t lower[kBlock];
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

// The features of one entry. F is their number where the code is compiled for it, and 0 otherwise.
template <class T, int F>
struct Features {
  typedef T Vector __attribute__((vector_size(F * sizeof(T))));
  Vector value;
  NLDF_INLINE void load(const T* from, int) { std::memcpy(&value, from, sizeof(value)); }
  NLDF_INLINE void store(T* to, int) const { std::memcpy(to, &value, sizeof(value)); }
  NLDF_INLINE void clear() { value = Vector{}; }
  NLDF_INLINE void add(const Features& other, T weight, int) { value += other.value * weight; }
  NLDF_INLINE T dot(const Features& other, int) const {
    const Vector product = value * other.value;
    T sum = 0;
    for (int f = 0; f < F; ++f) sum += product[f];
    return sum;
  }
};
template <class T>
struct Features<T, 0> {
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
  NLDF_INLINE void add(const Features& other, T weight, int count) {
    for (int f = 0; f < count; ++f) value[f] += other.value[f] * weight;
  }
  NLDF_INLINE T dot(const Features& other, int count) const {
    T sum = 0;
    for (int f = 0; f < count; ++f) sum += value[f] * other.value[f];
    return sum;
  }
};
template <class T>
struct Features<T, 1> {
  T value;
  NLDF_INLINE void load(const T* from, int) { value = *from; }
  NLDF_INLINE void store(T* to, int) const { *to = value; }
  NLDF_INLINE void clear() { value = 0; }
  NLDF_INLINE void add(const Features& other, T weight, int) { value += other.value * weight; }
  NLDF_INLINE T dot(const Features& other, int) const { return value * other.value; }
};

// What a kernel below is called with: the points begin to end, of one level or of all.
template <class T>
struct EncodeJob {
  const GridArgs<T>* args;
  const GridLevels* levels;
  int64_t begin, end;
};
template <class T>
struct TableJob {
  const GridBackwardArgs<T>* args;
  const GridLevel* level;
  const T* v_out;  // the level's first column
  T* into;         // [entries, features]
  int64_t begin, end;
};
template <class T>
struct PointJob {
  const GridBackwardArgs<T>* args;
  const GridLevels* levels;
  int64_t begin, end;  // at most kTile points
};

template <class T, int D, int F>
struct Encode {
  using Job = EncodeJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    Corners<T, D> corners;
    for (int64_t l = 0; l < args.levels; ++l) {
      const GridLevel& level = job.levels->level[l];
      const T* const table = args.table + level.offset * features;
      for (int64_t begin = job.begin; begin < job.end; begin += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, job.end - begin));
        find_corners<T, D, false>(args.x + begin * D, count, level, args.smooth != 0, corners);
        T* out = args.out + begin * row + l * features;
        for (int i = 0; i < count; ++i, out += row) {
          Features<T, F> sum, entry;
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
template <class T, int D, int F>
struct TableGradient {
  using Job = TableJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridBackwardArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    Corners<T, D> corners;
    for (int64_t begin = job.begin; begin < job.end; begin += kBlock) {
      const int count = static_cast<int>(std::min<int64_t>(kBlock, job.end - begin));
      find_corners<T, D, false>(args.x + begin * D, count, *job.level, args.smooth != 0, corners);
      const T* v_out = job.v_out + begin * row;
      for (int i = 0; i < count; ++i, v_out += row) {
        Features<T, F> v, entry;
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
template <class T, int D, int F>
struct PointGradient {
  using Job = PointJob<T>;

  static NLDF_INLINE void run(const Job& job) {
    const GridBackwardArgs<T>& args = *job.args;
    const int features = F ? F : static_cast<int>(args.features);
    const int64_t row = args.levels * features;
    Corners<T, D> corners;
    T dots[1 << D][kBlock];
    T v_x[D][kTile] = {};
    for (int64_t l = 0; l < args.levels; ++l) {
      const GridLevel& level = job.levels->level[l];
      const T* const table = args.table + level.offset * features;
      for (int64_t begin = job.begin; begin < job.end; begin += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, job.end - begin));
        find_corners<T, D, true>(args.x + begin * D, count, level, args.smooth != 0, corners);
        const T* v_out = args.v_out + begin * row + l * features;
        for (int i = 0; i < count; ++i, v_out += row) {
          Features<T, F> v, entry;
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
            T factors[kBlock];
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

template <class Kernel>
void run_plain(const typename Kernel::Job& job) {
  Kernel::run(job);
}
template <class Kernel>
NLDF_AVX2 void run_avx2(const typename Kernel::Job& job) {
  Kernel::run(job);
}


// The compiled variant of a kernel that fits the machine and the sizes. double exists for gradient checks:
// it gets the plain one.
template <template <class, int, int> class Kernel, class T, int D, int F>
auto choose_machine() -> void (*)(const typename Kernel<T, D, F>::Job&) {
  return NLDF_HAS_AVX2 ? run_avx2<Kernel<T, D, F>> : run_plain<Kernel<T, D, F>>;
}
template <template <class, int, int> class Kernel, class T, int D>
void run_features(int64_t features, const typename Kernel<T, D, 0>::Job& job) {
  if constexpr (sizeof(T) == sizeof(float)) {
    switch (features) {
      case 1: return choose_machine<Kernel, T, D, 1>()(job);
      case 2: return choose_machine<Kernel, T, D, 2>()(job);
      case 4: return choose_machine<Kernel, T, D, 4>()(job);
      case 8: return choose_machine<Kernel, T, D, 8>()(job);
      default: return choose_machine<Kernel, T, D, 0>()(job);
    }
  } else {
    run_plain<Kernel<T, D, 0>>(job);
  }
}
template <template <class, int, int> class Kernel, class T>
void run_kernel(int64_t dims, int64_t features, const typename Kernel<T, 2, 0>::Job& job) {
  switch (dims) {
    case 2: return run_features<Kernel, T, 2>(features, job);
    case 3: return run_features<Kernel, T, 3>(features, job);
    default: return run_features<Kernel, T, 4>(features, job);
  }
}

// Levels belong to one thread each, and add up their points in order: no two threads write to one entry, and
// the result does not depend on who runs first. Where the levels can't be dealt out evenly, the points of
// every level are cut in parts; all parts but the first add into entries of their own, which are then summed
// in the order of the parts. So the result is the same for the same number of threads.
template <class T>
void add_table_gradient(const GridBackwardArgs<T>& args, const GridLevels& levels, int threads) {
  int64_t parts[kGridLevels], scratch[kGridLevels], scratch_size = 0, most = 1;
  for (int64_t l = 0; l < args.levels; ++l) {
    // A part costs the clearing and the summing of its entries: worth it only below its additions' cost.
    const int64_t worth = (args.points << args.dims) / (2 * levels.level[l].entries);
    const int64_t wanted = threads / std::gcd<int64_t>(threads, args.levels);
    parts[l] = std::max<int64_t>(1, std::min(wanted, worth));
    scratch[l] = scratch_size;
    scratch_size += (parts[l] - 1) * levels.level[l].entries * args.features;
    most = std::max(most, parts[l]);
  }
  std::vector<T> added(static_cast<size_t>(scratch_size));
  const auto target = [&](int64_t l, int64_t part) {
    const int64_t size = levels.level[l].entries * args.features;
    return part ? added.data() + scratch[l] + (part - 1) * size
                : args.v_table + levels.level[l].offset * args.features;
  };
  // Large levels first: they take longest.
  parallel_for(args.levels * most, 1, threads, [&](int64_t task, int64_t) {
    const int64_t l = args.levels - 1 - task / most, part = task % most;
    if (part >= parts[l]) return;
    const int64_t size = levels.level[l].entries * args.features;
    T* const into = target(l, part);
    std::fill(into, into + size, T(0));
    const int64_t begin = args.points * part / parts[l], end = args.points * (part + 1) / parts[l];
    run_kernel<TableGradient, T>(args.dims, args.features,
                                 {&args, &levels.level[l], args.v_out + l * args.features, into, begin, end});
  });
  if (most == 1) return;
  for (int64_t l = 0; l < args.levels; ++l) {
    if (parts[l] == 1) continue;
    T* const sum = target(l, 0);
    parallel_for(levels.level[l].entries * args.features, 16384, threads, [&](int64_t begin, int64_t end) {
      for (int64_t part = 1; part < parts[l]; ++part) {
        const T* const from = target(l, part);
        NLDF_LANES
        for (int64_t i = begin; i < end; ++i) sum[i] += from[i];
      }
    });
  }
}

}  // namespace

template <class T>
void grid_cpu(const GridArgs<T>& args, const Exec& exec) {
  const GridLevels levels = make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims);
  parallel_for(args.points, kTile, exec.threads, [&](int64_t begin, int64_t end) {
    run_kernel<Encode, T>(args.dims, args.features, {&args, &levels, begin, end});
  });
}

template <class T>
void grid_backward_cpu(const GridBackwardArgs<T>& args, const Exec& exec) {
  const GridLevels levels = make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims);
  if (args.v_table) add_table_gradient(args, levels, exec.threads);
  if (args.v_x) {
    parallel_for(args.points, kTile, exec.threads, [&](int64_t begin, int64_t end) {
      run_kernel<PointGradient, T>(args.dims, args.features, {&args, &levels, begin, end});
    });
  }
}

template void grid_cpu(const GridArgs<float>&, const Exec&);
template void grid_cpu(const GridArgs<double>&, const Exec&);
template void grid_backward_cpu(const GridBackwardArgs<float>&, const Exec&);
template void grid_backward_cpu(const GridBackwardArgs<double>&, const Exec&);

}  // namespace nldf
