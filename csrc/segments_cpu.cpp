#include "segments.h"

namespace nldf {

template <class T>
void segments_cpu(const SegmentsArgs<T>& args, const Exec& exec) {
  parallel_for(args.rays, 64, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) composite_ray(args, ray);
  });
}

template <class T>
void segments_backward_cpu(const SegmentsBackwardArgs<T>& args, const Exec& exec) {
  parallel_for(args.rays, 64, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) composite_ray_backward(args, ray);
  });
}

template void segments_cpu(const SegmentsArgs<float>&, const Exec&);
template void segments_cpu(const SegmentsArgs<double>&, const Exec&);
template void segments_backward_cpu(const SegmentsBackwardArgs<float>&, const Exec&);
template void segments_backward_cpu(const SegmentsBackwardArgs<double>&, const Exec&);

}  // namespace nldf
