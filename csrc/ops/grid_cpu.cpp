#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/grid_blocks.h"

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
template <template <class, int, int, bool> class Kernel, class T, int D, int F, bool Placed>
auto choose_machine() -> void (*)(const typename Kernel<T, D, F, Placed>::Job&) {
  return NLDF_HAS_AVX2 ? run_avx2<Kernel<T, D, F, Placed>> : run_plain<Kernel<T, D, F, Placed>>;
}
template <template <class, int, int, bool> class Kernel, class T, int D, bool Placed>
void run_features(int64_t features, const typename Kernel<T, D, 0, Placed>::Job& job) {
  if constexpr (sizeof(T) == sizeof(float)) {
    switch (features) {
      case 1:
        return choose_machine<Kernel, T, D, 1, Placed>()(job);
      case 2:
        return choose_machine<Kernel, T, D, 2, Placed>()(job);
      case 4:
        return choose_machine<Kernel, T, D, 4, Placed>()(job);
      case 8:
        return choose_machine<Kernel, T, D, 8, Placed>()(job);
      default:
        return choose_machine<Kernel, T, D, 0, Placed>()(job);
    }
  } else {
    run_plain<Kernel<T, D, 0, Placed>>(job);
  }
}
template <template <class, int, int, bool> class Kernel, class T, bool Placed>
void run_dims(int64_t dims, int64_t features, const typename Kernel<T, 2, 0, Placed>::Job& job) {
  switch (dims) {
    case 2:
      return run_features<Kernel, T, 2, Placed>(features, job);
    case 3:
      return run_features<Kernel, T, 3, Placed>(features, job);
    default:
      return run_features<Kernel, T, 4, Placed>(features, job);
  }
}
template <template <class, int, int, bool> class Kernel, class T>
void run_kernel(int64_t dims, int64_t features, const typename Kernel<T, 2, 0, false>::Job& job) {
  return job.args->placing.scales ? run_dims<Kernel, T, true>(dims, features, job)
                                  : run_dims<Kernel, T, false>(dims, features, job);
}

// Levels belong to one thread each, and add up their points in order: no two threads write to one entry, and
// the result does not depend on who runs first. Where the levels can't be dealt out evenly, the points of
// every level are cut in parts; all parts but the first add into entries of their own, which are then summed
// in the order of the parts. So the result is the same for the same number of threads.
template <class T>
void add_table_gradient(const GridBackwardArgs<T>& args, const GridLevels& levels, int threads) {
  // Below this much work a second thread costs more than it helps.
  constexpr int64_t kLeast = 1 << 15;
  const int64_t work = ((args.points * args.levels) << args.dims) + args.offsets[args.levels];
  if (work < kLeast) threads = 1;
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
    run_kernel<GridTableGradient, T>(
        args.dims, args.features,
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
  const GridLevels levels =
      make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims, args.placing);
  parallel_for(args.points, kGridTile, exec.threads, [&](int64_t begin, int64_t end) {
    run_kernel<GridEncode, T>(args.dims, args.features, {&args, &levels, begin, end});
  });
}

template <class T>
void grid_backward_cpu(const GridBackwardArgs<T>& args, const Exec& exec) {
  const GridLevels levels =
      make_grid_levels(args.resolutions, args.offsets, args.levels, args.dims, args.placing);
  if (args.v_table) add_table_gradient(args, levels, exec.threads);
  if (args.v_x) {
    parallel_for(args.points, kGridTile, exec.threads, [&](int64_t begin, int64_t end) {
      run_kernel<GridPointGradient, T>(args.dims, args.features, {&args, &levels, begin, end});
    });
  }
}

template void grid_cpu(const GridArgs<float>&, const Exec&);
template void grid_cpu(const GridArgs<double>&, const Exec&);
template void grid_backward_cpu(const GridBackwardArgs<float>&, const Exec&);
template void grid_backward_cpu(const GridBackwardArgs<double>&, const Exec&);

}  // namespace nldf
