#include <numeric>
#include <type_traits>

#include "ops/elementwise_kernels.h"
#include "ops/references_lanes.h"

namespace nldf {

namespace {
constexpr int64_t kPoints = 256;  // in a piece of work

// The gradient of the maps. A map's channels belong to one thread each, which takes the points in their
// order: no two threads write to one number, and sums don't depend on how many threads there are. Maps are
// cut into pieces of whole cache lines where they alone can't be dealt out evenly.
template <class T>
void add_maps_gradient(const ReferencesBackwardArgs<T>& args, int threads) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t lines = (args.channels + kLine - 1) / kLine;
  const int64_t wanted = threads / std::gcd<int64_t>(threads, args.references);
  const int64_t parts = std::max<int64_t>(1, std::min(lines, wanted));
  parallel_for(args.references * parts, 1, threads, [&](int64_t task, int64_t) {
    const int64_t r = task / parts, part = task % parts;
    const int64_t begin = std::min(args.channels, lines * part / parts * kLine);
    const int64_t end = std::min(args.channels, lines * (part + 1) / parts * kLine);
    if constexpr (std::is_same_v<T, float>)
      isa.references_maps(args, r, begin, end);
    else
      references_maps_lanes(args, r, begin, end);
  });
}
}  // namespace

template <class T>
void references_cpu(const ReferencesArgs<T>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  parallel_for(args.count, kPoints, exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>)
      isa.references(args, begin, end);
    else
      references_lanes(args, begin, end);
  });
}

template <class T>
void references_backward_cpu(const ReferencesBackwardArgs<T>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  if (args.v_maps && args.references) add_maps_gradient(args, exec.threads);
  if (!args.v_points && !args.v_offsets) return;
  parallel_for(args.count, kPoints, exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>)
      isa.references_places(args, begin, end);
    else
      references_places_lanes<Lanes<T, sizeof(T), 8, 3>>(args, begin, end);
  });
}

template void references_cpu(const ReferencesArgs<float>&, const Exec&);
template void references_cpu(const ReferencesArgs<double>&, const Exec&);
template void references_backward_cpu(const ReferencesBackwardArgs<float>&, const Exec&);
template void references_backward_cpu(const ReferencesBackwardArgs<double>&, const Exec&);

}  // namespace nldf
