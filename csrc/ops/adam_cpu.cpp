#include "ops/adam.h"

#include <type_traits>

#include "ops/elementwise_kernels.h"

namespace nldf {

namespace {
constexpr int64_t kEntries = 4096;  // in a piece of work
}

template <class T>
void adam_cpu(const AdamArgs<T>& given, const Exec& exec) {
  const AdamArgs<T> args = adam_args(given);
  const ElementwiseKernels& isa = elementwise_kernels();
  parallel_for(args.entries, kEntries, exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>)
      isa.adam(args, begin, end);
    else
      for (int64_t entry = begin; entry < end; ++entry) adam_entry(args, entry);
  });
}

template void adam_cpu(const AdamArgs<float>&, const Exec&);
template void adam_cpu(const AdamArgs<double>&, const Exec&);

}  // namespace nldf
