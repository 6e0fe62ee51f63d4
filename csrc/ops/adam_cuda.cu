#include "core/launch.cuh"
#include "ops/adam.h"

namespace nldf {

namespace {
constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) adam_kernel(const AdamArgs<float> given) {
  const AdamArgs<float> args = adam_args(given);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t entry = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; entry < args.entries; entry += step) adam_entry(args, entry);
}
}  // namespace

void adam_cuda(const AdamArgs<float>& args, const Exec& exec) {
  launch("adam", adam_kernel, args, args.entries, kThreads, kThreads, exec);
}

}  // namespace nldf
