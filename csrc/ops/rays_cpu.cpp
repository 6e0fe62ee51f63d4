#include "ops/rays.h"

#include <type_traits>

#include "ops/elementwise_kernels.h"

namespace nldf {

template <class T>
void rays_cpu(const RaysArgs<T>& args, const Exec& exec) {
  constexpr int64_t kGrain = 4096;
  const ElementwiseKernels& isa = elementwise_kernels();
  const int64_t pieces = (args.per_frame + kGrain - 1) / kGrain;
  parallel_for(args.frames * pieces, 1, exec.threads, [&](int64_t piece, int64_t) {
    const int64_t frame = piece / pieces;
    const int64_t begin = frame * args.per_frame + piece % pieces * kGrain;
    const int64_t end = std::min((frame + 1) * args.per_frame, begin + kGrain);
    if constexpr (std::is_same_v<T, float>) {
      isa.rays(args, frame, begin, end);
    } else {
      const RayCamera<T> camera = load_camera(args.pose, args.intrinsics, frame);
      for (int64_t p = begin; p < end; ++p)
        make_ray(camera, args.pixels + 2 * p, args.origins + 3 * p, args.directions + 3 * p);
    }
  });
}

template <class T>
void rays_backward_cpu(const RaysBackwardArgs<T>& args, const Exec& exec) {
  const ElementwiseKernels& isa = elementwise_kernels();
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  parallel_for(args.frames * blocks, 1, exec.threads, [&](int64_t piece, int64_t) {
    const int64_t frame = piece / blocks;
    const int64_t begin = frame * args.per_frame + piece % blocks * args.block;
    const int64_t end = std::min((frame + 1) * args.per_frame, begin + args.block);
    double sums[kRayGradients] = {};
    if constexpr (std::is_same_v<T, float>) {
      isa.rays_backward(args, frame, begin, end, sums);
    } else {
      const RayCamera<T> camera = load_camera(args.pose, args.intrinsics, frame);
      for (int64_t p = begin; p < end; ++p)
        make_ray_backward(camera, args.pixels + 2 * p, args.v_origins + 3 * p, args.v_directions + 3 * p,
                          sums);
    }
    for (int i = 0; i < kRayGradients; ++i) args.partial[piece * kRayGradients + i] = static_cast<T>(sums[i]);
  });
}

template void rays_cpu(const RaysArgs<float>&, const Exec&);
template void rays_cpu(const RaysArgs<double>&, const Exec&);
template void rays_backward_cpu(const RaysBackwardArgs<float>&, const Exec&);
template void rays_backward_cpu(const RaysBackwardArgs<double>&, const Exec&);

}  // namespace nldf
