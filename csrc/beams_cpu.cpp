#include "beams.h"

#include <type_traits>

namespace nldf {

namespace {
constexpr int kLanes = 16;
constexpr int64_t kRays = 16;  // rays in a piece of work

// Calls each(count, first) for the 3K coordinates of a beam: as many full vectors as fit, then singles.
template <class Each>
void over_coordinates(int64_t coordinates, const Each& each) {
  int64_t first = 0;
  for (; first + kLanes <= coordinates; first += kLanes) each(std::integral_constant<int, kLanes>(), first);
  for (; first < coordinates; ++first) each(std::integral_constant<int, 1>(), first);
}
}  // namespace

template <class T, class Out>
void beams_cpu(const BeamsArgs<T, Out>& args, const Exec& exec) {
  const int64_t stride = 3 * args.points;
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
      over_coordinates(stride, [&](auto lanes, int64_t first) {
        T x[lanes()];
        beam_coordinates<lanes()>(args, ray, first, x);
        encode_coordinates<lanes()>(x, args.frequencies, stride, args.encoded + ray * args.columns + first);
      });
      pad_beam(args, ray, 0, 1);
    }
  });
}

template <class T>
void beams_backward_cpu(const BeamsBackwardArgs<T>& args, const Exec& exec) {
  const int64_t stride = 3 * args.points;
  const int64_t width = stride * (2 * args.frequencies + 1);
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
      T v_origin[3] = {}, v_direction[3] = {};
      over_coordinates(stride, [&](auto lanes, int64_t first) {
        T x[lanes()], v_x[lanes()];
        beam_coordinates<lanes()>(args, ray, first, x);
        encode_coordinates_backward<lanes()>(x, args.frequencies, stride,
                                             args.v_encoded + ray * width + first, v_x);
        for (int i = 0; i < lanes(); ++i) {
          const T v_point = v_x[i] * args.scale;
          v_origin[(first + i) % 3] += v_point;
          v_direction[(first + i) % 3] += v_point * beam_distance(args, (first + i) / 3);
        }
      });
      for (int axis = 0; axis < 3; ++axis) {
        args.v_origins[3 * ray + axis] = v_origin[axis];
        args.v_directions[3 * ray + axis] = v_direction[axis];
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
