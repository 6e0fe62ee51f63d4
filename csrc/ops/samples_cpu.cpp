#include "ops/samples.h"

namespace nldf {

template <class T>
void samples_cpu(const SamplesArgs<T>& args, const Exec& exec) {
  parallel_for(args.rays, 64, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) resample_ray(args, ray);
  });
}

template void samples_cpu(const SamplesArgs<float>&, const Exec&);
template void samples_cpu(const SamplesArgs<double>&, const Exec&);

}  // namespace nldf
