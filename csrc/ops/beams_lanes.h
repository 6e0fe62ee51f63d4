// Beams in vectors of coordinates: beams.h's formulae, a coordinate a lane.
#pragma once

#include <type_traits>

#include "core/triples.h"
#include "ops/beams.h"

namespace nldf {
namespace {

// Calls each(count, first) for the coordinates of a beam: three vectors at a time, in which every lane keeps
// its axis, then one coordinate.
template <class L, class Each>
inline void over_coordinates(int64_t coordinates, const Each& each) {
  constexpr int n = 3 * L::lanes;
  int64_t first = 0;
  for (; first + n <= coordinates; first += n) each(std::integral_constant<int, n>(), first);
  for (; first < coordinates; ++first) each(std::integral_constant<int, 1>(), first);
}

// A ray's origin and direction, over and over.
template <class L>
struct BeamLanes {
  static constexpr int n = 3 * L::lanes;
  typename L::Scalar origin[n], direction[n];

  template <class Args>
  BeamLanes(const Args& args, int64_t ray) {
    typename L::Vector triples[3];
    Triples<L>::repeat(args.origins + 3 * ray, triples);
    Triples<L>::store(origin, triples);
    Triples<L>::repeat(args.directions + 3 * ray, triples);
    Triples<L>::store(direction, triples);
  }
  // Coordinates first ... first + N - 1; first is a multiple of 3, or N is 1.
  template <int N, class T>
  void coordinates(const T* distances, int64_t first, T scale, T x[N]) const {
    const int axis = N == 1 ? static_cast<int>(first % 3) : 0;
    NLDF_LANES
    for (int i = 0; i < N; ++i)
      x[i] = beam_coordinate(origin[axis + i], direction[axis + i], distances[first + i], scale);
  }
};

template <class L, class Out>
void beams_lanes(const BeamsArgs<typename L::Scalar, Out>& args, const typename L::Scalar* distances,
                 int64_t begin, int64_t end) {
  using T = typename L::Scalar;
  const int64_t stride = 3 * args.points;
  for (int64_t ray = begin; ray < end; ++ray) {
    const BeamLanes<L> beam(args, ray);
    Out* const encoded = args.encoded + ray * args.columns;
    over_coordinates<L>(stride, [&](auto lanes, int64_t first) {
      T x[lanes()];
      beam.template coordinates<lanes()>(distances, first, args.scale, x);
      encode_coordinates<lanes()>(x, args.frequencies, stride, encoded + first);
    });
    pad_beam(args, ray, 0, 1);
  }
}

template <class L>
void beams_backward_lanes(const BeamsBackwardArgs<typename L::Scalar>& args,
                          const typename L::Scalar* distances, int64_t begin, int64_t end) {
  using T = typename L::Scalar;
  constexpr int n = 3 * L::lanes;
  const int64_t stride = 3 * args.points, width = stride * (2 * args.frequencies + 1);
  for (int64_t ray = begin; ray < end; ++ray) {
    const BeamLanes<L> beam(args, ray);
    T v_origin[n] = {}, v_direction[n] = {};
    over_coordinates<L>(stride, [&](auto lanes, int64_t first) {
      T x[lanes()], v_x[lanes()];
      beam.template coordinates<lanes()>(distances, first, args.scale, x);
      encode_coordinates_backward<lanes()>(x, args.frequencies, stride, args.v_encoded + ray * width + first,
                                           v_x);
      const int axis = lanes() == 1 ? static_cast<int>(first % 3) : 0;
      NLDF_LANES
      for (int i = 0; i < lanes(); ++i) {
        const T v_point = v_x[i] * args.scale;
        v_origin[axis + i] += v_point;
        v_direction[axis + i] += v_point * distances[first + i];
      }
    });
    typename L::Vector triples[3];
    Triples<L>::load(v_origin, triples);
    Triples<L>::sum(triples, args.v_origins + 3 * ray);
    Triples<L>::load(v_direction, triples);
    Triples<L>::sum(triples, args.v_directions + 3 * ray);
  }
}

}  // namespace
}  // namespace nldf
