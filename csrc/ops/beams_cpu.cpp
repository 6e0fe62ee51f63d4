#include "ops/beams.h"

#include <type_traits>
#include <vector>

#include "ops/elementwise_kernels.h"

namespace nldf {

namespace {
constexpr int64_t kRays = 32;  // in a piece of work

// Every coordinate's distance along its ray: the same for all rays.
template <class Args>
auto coordinate_distances(const Args& args) {
  std::vector<decltype(args.scale + args.scale)> distances(static_cast<size_t>(3 * args.points));
  for (size_t i = 0; i < distances.size(); ++i)
    distances[i] = beam_distance(args, static_cast<int64_t>(i / 3));
  return distances;
}
}  // namespace

template <class T, class Out>
void beams_cpu(const BeamsArgs<T, Out>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  const auto distances = coordinate_distances(args);
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<Out, Half>) {
      isa.beams_half(args, distances.data(), begin, end);
    } else if constexpr (std::is_same_v<T, float>) {
      isa.beams(args, distances.data(), begin, end);
    } else {
      const int64_t stride = 3 * args.points;
      for (int64_t ray = begin; ray < end; ++ray) {
        for (int64_t i = 0; i < stride; ++i) {
          T x[1];
          beam_coordinates<1>(args, ray, i, x);
          encode_coordinates<1>(x, args.frequencies, stride, args.encoded + ray * args.columns + i);
        }
        pad_beam(args, ray, 0, 1);
      }
    }
  });
}

template <class T>
void beams_backward_cpu(const BeamsBackwardArgs<T>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  const auto distances = coordinate_distances(args);
  const int64_t stride = 3 * args.points;
  const int64_t width = stride * (2 * args.frequencies + 1);
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, float>) {
      isa.beams_backward(args, distances.data(), begin, end);
    } else {
      for (int64_t ray = begin; ray < end; ++ray) {
        T v_origin[3] = {}, v_direction[3] = {};
        for (int64_t i = 0; i < stride; ++i) {
          T x[1], v_x[1];
          beam_coordinates<1>(args, ray, i, x);
          encode_coordinates_backward<1>(x, args.frequencies, stride, args.v_encoded + ray * width + i, v_x);
          const T v_point = v_x[0] * args.scale;
          v_origin[i % 3] += v_point;
          v_direction[i % 3] += v_point * distances[static_cast<size_t>(i)];
        }
        for (int axis = 0; axis < 3; ++axis) {
          args.v_origins[3 * ray + axis] = v_origin[axis];
          args.v_directions[3 * ray + axis] = v_direction[axis];
        }
      }
    }
  });
}

template void beams_cpu(const BeamsArgs<float>&, const Exec&);
template void beams_cpu(const BeamsArgs<double>&, const Exec&);
template void beams_cpu(const BeamsArgs<float, Half>&, const Exec&);
template void beams_backward_cpu(const BeamsBackwardArgs<float>&, const Exec&);
template void beams_backward_cpu(const BeamsBackwardArgs<double>&, const Exec&);

}  // namespace nldf
