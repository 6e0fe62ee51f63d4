// Small convolutional networks on the CPU: which instruction set, and pictures to threads. The arithmetic is
// in convnet_lanes.h.
#include <algorithm>

#include "core/isa.h"
#include "core/scratch.h"
#include "ops/convnet_kernels.h"

namespace nldf {

namespace {

const ConvnetKernels& convnet_kernels() {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kConvnetAvx512;
  if (isa == Isa::avx2) return kConvnetAvx2;
#endif
  return kConvnetPortable;
}

}  // namespace

void convnet_cpu(const ConvnetArgs& args, const Exec& exec) {
  const ConvnetKernels& isa = convnet_kernels();
  const auto* const steps = reinterpret_cast<const ConvnetStep*>(args.steps);
  int64_t inputs = 0;
  for (int64_t k = 0; k < args.count; ++k)
    inputs = std::max(inputs, steps[k].kernel * steps[k].kernel * steps[k].channels);
  parallel_for(args.batch, 1, exec.threads, [&](int64_t begin, int64_t end) {
    float* const memory = scratch<float>(args.memory + kConvnetRows * inputs);
    for (int64_t b = begin; b < end; ++b) {
      const float* const picture = args.pictures + b * args.size * args.size * 3;
      for (int64_t k = 0; k < args.count; ++k)
        isa.step(steps[k], picture, args.weights, memory, args.out + b * args.numbers, memory + args.memory);
    }
  });
}

}  // namespace nldf
