// Rays to frequency-encoded beams; the only place this mathematics lives.
//
// K points p_k = o + t_k d from near to far, both included, times `scale`, are the 3K coordinates x of a
// beam, point by point. The encoding is x, sin x, cos x, sin 2x, cos 2x, ..., sin 2^(L-1) x, cos 2^(L-1) x:
// 2 L + 1 blocks of 3K. Rows may be wider than that, as matrix instructions like them: the rest is zero.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/half.h"
#include "core/hd.h"
#include "core/maths.h"

namespace nldf {

template <class T, class Out = T>
struct BeamsArgs {
  NLDF_FIELDS((const T*, origins),     // [R, 3]
              (const T*, directions),  // [R, 3]
              (Out*, encoded),         // [R, columns]
              (int64_t, rays),         // R
              (int64_t, points),       // K
              (int64_t, frequencies),  // L
              (T, near), (T, far),     // distances of the first and last point
              (T, scale),              // multiplies the points before they are encoded
              (int64_t, columns));     // of a row, at least 3 K (2 L + 1)
};

template <class T>
struct BeamsBackwardArgs {
  NLDF_FIELDS((const T*, origins),     // [R, 3]
              (const T*, directions),  // [R, 3]
              (const T*, v_encoded),   // [R, 3 K (2 L + 1)]
              (T*, v_origins),         // [R, 3]
              (T*, v_directions),      // [R, 3]
              (int64_t, rays), (int64_t, points), (int64_t, frequencies), (T, near), (T, far), (T, scale));
};

// Distance of point k. Counted from the nearer end, so that the last one is `far` itself.
template <class Args>
NLDF_HD auto beam_distance(const Args& args, int64_t k) -> decltype(args.scale + args.scale) {
  using T = decltype(args.scale + args.scale);
  if (args.points == 1) return args.near;
  const T step = (args.far - args.near) / static_cast<T>(args.points - 1);
  return k < args.points / 2 ? args.near + step * static_cast<T>(k)
                             : args.far - step * static_cast<T>(args.points - 1 - k);
}

template <class T>
NLDF_HD T beam_coordinate(T origin, T direction, T distance, T scale) {
  return (origin + distance * direction) * scale;
}

// Coordinates first ... first + N - 1 of a ray's beam.
template <int N, class Args, class T>
NLDF_HD void beam_coordinates(const Args& args, int64_t ray, int64_t first, T x[N]) {
  const int64_t point = first / 3;
  const int shift = static_cast<int>(first % 3);
  for (int i = 0; i < N; ++i) {
    const int axis = (shift + i) % 3;
    x[i] = beam_coordinate(args.origins[3 * ray + axis], args.directions[3 * ray + axis],
                           beam_distance(args, point + (shift + i) / 3), args.scale);
  }
}

// Writes N neighbouring columns of the encoding; `stride` is 3K. The host takes N lanes at a time so that
// they fill vector registers, the device one a thread.
template <int N, class T, class Out>
NLDF_HD void encode_coordinates(const T x[N], int64_t frequencies, int64_t stride, Out* out) {
  convert<N>(x, out);
  if (frequencies == 0) return;
  Angles<T, N> angles;
  NLDF_LANES
  for (int i = 0; i < N; ++i) angles.set(i, x[i]);
  T times = 1;
  for (int64_t level = 0; level < frequencies; ++level) {
    T sines[N], cosines[N];
    NLDF_LANES
    for (int i = 0; i < N; ++i) angles.get(i, times, sines[i], cosines[i]);
    convert<N>(sines, out + (2 * level + 1) * stride);
    convert<N>(cosines, out + (2 * level + 2) * stride);
    times *= 2;
  }
}

// Gradients of N neighbouring coordinates from their columns of the encoding's gradient:
// v_x = v_raw + sum_l 2^l (cos(2^l x) v_sin - sin(2^l x) v_cos).
template <int N, class T>
NLDF_HD void encode_coordinates_backward(const T x[N], int64_t frequencies, int64_t stride, const T* v_out,
                                         T v_x[N]) {
  for (int i = 0; i < N; ++i) v_x[i] = v_out[i];
  if (frequencies == 0) return;
  Angles<T, N> angles;
  NLDF_LANES
  for (int i = 0; i < N; ++i) angles.set(i, x[i]);
  T times = 1;
  for (int64_t level = 0; level < frequencies; ++level) {
    const T* v_sines = v_out + (2 * level + 1) * stride;
    const T* v_cosines = v_sines + stride;
    NLDF_LANES
    for (int i = 0; i < N; ++i) {
      T sine, cosine;
      angles.get(i, times, sine, cosine);
      v_x[i] += times * (cosine * v_sines[i] - sine * v_cosines[i]);
    }
    times *= 2;
  }
}

// Zeros behind the encoding, in steps of `stride` from the given column on.
template <class T, class Out>
NLDF_HD void pad_beam(const BeamsArgs<T, Out>& args, int64_t ray, int64_t column, int64_t stride) {
  const int64_t width = 3 * args.points * (2 * args.frequencies + 1);
  for (int64_t i = width + column; i < args.columns; i += stride)
    args.encoded[ray * args.columns + i] = Out(0);
}

template <class T, class Out>
void beams_cpu(const BeamsArgs<T, Out>& args, const Exec& exec);
template <class T>
void beams_backward_cpu(const BeamsBackwardArgs<T>& args, const Exec& exec);
void beams_cuda(const BeamsArgs<float>& args, const Exec& exec);
void beams_half_cuda(const BeamsArgs<float, Half>& args, const Exec& exec);
void beams_backward_cuda(const BeamsBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
