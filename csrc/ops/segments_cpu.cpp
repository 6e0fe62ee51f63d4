#include "ops/segments.h"

#include <type_traits>

#include "core/scratch.h"
#include "ops/elementwise_kernels.h"

namespace nldf {

namespace {
// Rays in a piece of work: as many as make up for handing it out, which are few where rows are long.
int64_t rays_at_once(int64_t channels) {
  constexpr int64_t kRays = 64, kFewRays = 8, kLongRow = 16;
  return channels < kLongRow ? kRays : kFewRays;
}
}  // namespace

template <class T>
void segments_cpu(const SegmentsArgs<T>& args, const Exec& exec) {
  const ElementwiseKernels& isa = elementwise_kernels();
  parallel_for(args.rays, rays_at_once(args.channels), exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>)
      isa.segments(args, begin, end, scratch<T>(segments_scratch(args.samples)));
    else
      for (int64_t ray = begin; ray < end; ++ray) composite_ray(args, ray);
  });
}

template <class T>
void segments_backward_cpu(const SegmentsBackwardArgs<T>& args, const Exec& exec) {
  const ElementwiseKernels& isa = elementwise_kernels();
  parallel_for(args.rays, rays_at_once(args.channels), exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>)
      isa.segments_backward(args, begin, end, scratch<T>(segments_scratch(args.samples)));
    else
      for (int64_t ray = begin; ray < end; ++ray) composite_ray_backward(args, ray);
  });
}

template void segments_cpu(const SegmentsArgs<float>&, const Exec&);
template void segments_cpu(const SegmentsArgs<double>&, const Exec&);
template void segments_backward_cpu(const SegmentsBackwardArgs<float>&, const Exec&);
template void segments_backward_cpu(const SegmentsBackwardArgs<double>&, const Exec&);

}  // namespace nldf
