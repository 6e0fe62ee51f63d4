// Points to Gaussian landmark features, eq. (8a) and (8b) of the Gaussian-landmark NeRF; the only place this
// mathematics lives.
//
// Landmark l has the covariance Sigma = R S S R^T with S = exp(log_scale) and R of a quaternion. With the
// factor A = S^-1 R^T of Sigma^-1 = A^T A, a point at the offset d from the landmark has u = A d, the squared
// Mahalanobis distance q = u . u and the weight w = exp(-q / 2), which is zero beyond the cut. Its depth is
// z = scale (axis . d), and its features are w (z, sin(pi z), cos(pi z), sin(2 pi z), cos(2 pi z), ...), in
// blocks of L: a block holds one feature of every landmark. Lanes are landmarks, so that they store whole.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "core/maths.h"

namespace nldf {

template <class T>
struct LandmarksArgs {
  NLDF_FIELDS((const T*, points),      // [F, N, 3]
              (const T*, landmarks),   // [F, L, 3]
              (const T*, rotations),   // [L, 4] quaternions w, x, y, z, of any length but 0
              (const T*, log_scales),  // [L, 3]
              (const T*, axis),        // [F, 3] the camera's z axis, or null: weights alone
              (T*, factors),           // [9, L], workspace: A, row by row
              (T*, features),          // [F, N, L (1 + 2 levels)], or [F, N, L] where weights alone
              (int64_t, frames),       // F
              (int64_t, per_frame),    // N
              (int64_t, count),        // L
              (int64_t, levels),       // of the frequency encoding
              (T, depth_scale),        // multiplies the depth
              (T, cut));               // Mahalanobis distance from which on a weight is zero
};

// What a landmark's gradients are made of, sums over points with h = -w dLoss/dw: six of h d d^T, which is
// symmetric, three of h d, and one of the gradient of axis . d.
constexpr int kLandmarkSums = 10;
constexpr int kLandmarkFactors = 9;

template <class T>
struct LandmarksBackwardArgs {
  NLDF_FIELDS((const T*, points), (const T*, landmarks), (const T*, rotations), (const T*, log_scales),
              (const T*, axis),        // as in LandmarksArgs
              (const T*, v_features),  // [F, N, L (1 + 2 levels)], or [F, N, L]
              (T*, factors),           // [9, L], workspace
              (T*, partial),           // [F, B, 10, L], workspace: sums over blocks of points
              (T*, v_points),          // [F, N, 3], or null where not wanted
              (T*, v_landmarks),       // [F, L, 3]
              (T*, v_rotations),       // [L, 4]
              (T*, v_log_scales),      // [L, 3]
              (int64_t, frames), (int64_t, per_frame), (int64_t, count), (int64_t, levels), (T, depth_scale),
              (T, cut), (int64_t, block));  // points in a block; B = ceil(N / block)
};

// Features of a landmark.
template <class Args>
NLDF_HD int64_t landmark_features(const Args& args) {
  return args.axis ? 1 + 2 * args.levels : 1;
}

// The columns of R of a unit quaternion.
template <class T>
NLDF_HD void landmark_columns(const T unit[4], T columns[3][3]) {
  const T w = unit[0], x = unit[1], y = unit[2], z = unit[3];
  columns[0][0] = 1 - 2 * (y * y + z * z);
  columns[0][1] = 2 * (x * y + w * z);
  columns[0][2] = 2 * (x * z - w * y);
  columns[1][0] = 2 * (x * y - w * z);
  columns[1][1] = 1 - 2 * (x * x + z * z);
  columns[1][2] = 2 * (y * z + w * x);
  columns[2][0] = 2 * (x * z + w * y);
  columns[2][1] = 2 * (y * z - w * x);
  columns[2][2] = 1 - 2 * (x * x + y * y);
}

// The quaternion at unit length; returns one over the length that it had.
template <class T>
NLDF_HD T landmark_unit(const T* rotation, T unit[4]) {
  T square = 0;
  for (int i = 0; i < 4; ++i) square += rotation[i] * rotation[i];
  const T inverse = T(1) / sqrt(square);
  for (int i = 0; i < 4; ++i) unit[i] = rotation[i] * inverse;
  return inverse;
}

// A = S^-1 R^T of landmark l: once a call, so that a point needs no root, exponential or quaternion.
template <class Args>
NLDF_HD void landmark_factor(const Args& args, int64_t l) {
  using T = decltype(args.cut + args.cut);
  T unit[4], columns[3][3];
  landmark_unit(args.rotations + 4 * l, unit);
  landmark_columns(unit, columns);
  for (int i = 0; i < 3; ++i) {
    const T inverse = exponential(-args.log_scales[3 * l + i]);
    for (int j = 0; j < 3; ++j) args.factors[(3 * i + j) * args.count + l] = inverse * columns[i][j];
  }
}

// N landmarks of a frame, a landmark a lane.
template <class T, int N>
struct LandmarkLanes {
  T place[3][N];
  T factor[kLandmarkFactors][N];
  T reach[N];  // the largest q that counts; below 0 in lanes that are another group's

  // Landmarks first ... first + N - 1; the first `skip` lanes have no part in gradients.
  template <class Args>
  NLDF_HD void load(const Args& args, int64_t frame, int64_t first, int skip = 0) {
    for (int i = 0; i < N; ++i) {
      const int64_t l = first + i;
      for (int c = 0; c < 3; ++c) place[c][i] = args.landmarks[3 * (frame * args.count + l) + c];
      for (int k = 0; k < kLandmarkFactors; ++k) factor[k][i] = args.factors[k * args.count + l];
      reach[i] = i < skip ? T(-1) : args.cut * args.cut;
    }
  }
};

// The frame's camera axis in units of the encoded depth; zero where weights alone are wanted.
template <class Args, class T>
NLDF_HD void landmark_axis(const Args& args, int64_t frame, T axis[3]) {
  for (int c = 0; c < 3; ++c) axis[c] = args.axis ? args.axis[3 * frame + c] * args.depth_scale : T(0);
}

// Offsets d, u = A d and q of N landmarks seen from the point x.
template <class T, int N>
NLDF_HD void landmark_distances(const LandmarkLanes<T, N>& at, const T* x, T d[3][N], T u[3][N], T q[N]) {
  const T x0 = x[0], x1 = x[1], x2 = x[2];
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    const T d0 = x0 - at.place[0][i], d1 = x1 - at.place[1][i], d2 = x2 - at.place[2][i];
    const T u0 = at.factor[0][i] * d0 + at.factor[1][i] * d1 + at.factor[2][i] * d2;
    const T u1 = at.factor[3][i] * d0 + at.factor[4][i] * d1 + at.factor[5][i] * d2;
    const T u2 = at.factor[6][i] * d0 + at.factor[7][i] * d1 + at.factor[8][i] * d2;
    d[0][i] = d0, d[1][i] = d1, d[2][i] = d2;
    u[0][i] = u0, u[1][i] = u1, u[2][i] = u2;
    q[i] = u0 * u0 + u1 * u1 + u2 * u2;
  }
}

// w, which keeps NaN, and the depth z.
template <class T, int N>
NLDF_HD void landmark_weights(const LandmarkLanes<T, N>& at, const T axis[3], const T d[3][N], const T q[N],
                              T w[N], T z[N]) {
  const T a0 = axis[0], a1 = axis[1], a2 = axis[2];
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    const T weight = exponential(T(-0.5) * q[i]);
    w[i] = q[i] > at.reach[i] ? T(0) : weight;
    z[i] = a0 * d[0][i] + a1 * d[1][i] + a2 * d[2][i];
  }
}

// The angle pi z; in float it is 2 z quarter turns, exactly.
template <int N>
NLDF_HD void set_half_turns(Angles<float, N>& angles, int i, float z) {
  angles.hi[i] = 2 * z;
  angles.lo[i] = 0;
}
template <int N>
NLDF_HD void set_half_turns(Angles<double, N>& angles, int i, double z) {
  angles.radians[i] = 3.14159265358979323846 * z;
}

// Every fourth level's sine and cosine are taken of the angle, the others by doubling, which doubles their
// error: to 16 times a few units in the last place at most.
constexpr int64_t kLandmarkDoublings = 4;

// Sine and cosine of level k from z or from those of level k - 1; times = 2^k.
template <class T, int N>
NLDF_HD void landmark_waves(const T z[N], int64_t level, T times, T sine[N], T cosine[N]) {
  if (level % kLandmarkDoublings == 0) {
    Angles<T, N> angles;
    NLDF_LANES
    for (int i = 0; i < N; ++i) set_half_turns(angles, i, z[i]);
    NLDF_LANES
    for (int i = 0; i < N; ++i) angles.get(i, times, sine[i], cosine[i]);
  } else {
    NLDF_LANES
    for (int i = 0; i < N; ++i) {
      const T s = sine[i], c = cosine[i];
      sine[i] = 2 * s * c;
      cosine[i] = 1 - 2 * s * s;
    }
  }
}

// Writes N landmarks' features of a point; `stride` is L.
template <class T, int N>
NLDF_HD void write_landmarks(const T w[N], const T z[N], bool depth, int64_t levels, int64_t stride, T* out) {
  NLDF_LANES
  for (int i = 0; i < N; ++i) out[i] = depth ? w[i] * z[i] : w[i];
  if (!depth) return;
  T sine[N] = {}, cosine[N] = {}, times = 1;
  for (int64_t level = 0; level < levels; ++level) {
    landmark_waves<T, N>(z, level, times, sine, cosine);
    T* const sines = out + (2 * level + 1) * stride;
    T* const cosines = sines + stride;
    NLDF_LANES
    for (int i = 0; i < N; ++i) sines[i] = w[i] * sine[i];
    NLDF_LANES
    for (int i = 0; i < N; ++i) cosines[i] = w[i] * cosine[i];
    times *= 2;
  }
}

// Gradients of N landmarks' weights and depths from those of a point's features.
template <class T, int N>
NLDF_HD void landmark_slopes(const T w[N], const T z[N], bool depth, int64_t levels, int64_t stride,
                             const T* v, T v_w[N], T v_z[N]) {
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    v_w[i] = depth ? v[i] * z[i] : v[i];
    v_z[i] = depth ? v[i] : T(0);
  }
  if (!depth) return;
  constexpr T kPi = T(3.14159265358979323846);
  T sine[N] = {}, cosine[N] = {}, times = 1;
  for (int64_t level = 0; level < levels; ++level) {
    landmark_waves<T, N>(z, level, times, sine, cosine);
    const T* const v_sines = v + (2 * level + 1) * stride;
    const T* const v_cosines = v_sines + stride;
    NLDF_LANES
    for (int i = 0; i < N; ++i) {
      v_w[i] += v_sines[i] * sine[i] + v_cosines[i] * cosine[i];
      v_z[i] += kPi * times * (v_sines[i] * cosine[i] - v_cosines[i] * sine[i]);
    }
    times *= 2;
  }
  NLDF_LANES
  for (int i = 0; i < N; ++i) v_z[i] *= w[i];
}

// Adds a point's share to N landmarks' sums, and writes the gradients of the offsets into v_d:
// h A^T u + axis v_z.
template <class T, int N>
NLDF_HD void landmark_sums(const LandmarkLanes<T, N>& at, const T axis[3], const T d[3][N], const T u[3][N],
                           const T w[N], const T v_w[N], const T v_z[N], T sums[kLandmarkSums][N],
                           T v_d[3][N]) {
  const T a0 = axis[0], a1 = axis[1], a2 = axis[2];
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    const T h = -w[i] * v_w[i];
    const T h0 = h * d[0][i], h1 = h * d[1][i], h2 = h * d[2][i];
    sums[0][i] += h0 * d[0][i];
    sums[1][i] += h0 * d[1][i];
    sums[2][i] += h0 * d[2][i];
    sums[3][i] += h1 * d[1][i];
    sums[4][i] += h1 * d[2][i];
    sums[5][i] += h2 * d[2][i];
    sums[6][i] += h0;
    sums[7][i] += h1;
    sums[8][i] += h2;
    sums[9][i] += v_z[i];
    const T u0 = h * u[0][i], u1 = h * u[1][i], u2 = h * u[2][i];
    for (int j = 0; j < 3; ++j) {
      const T a = j == 0 ? a0 : (j == 1 ? a1 : a2);
      v_d[j][i] = at.factor[j][i] * u0 + at.factor[3 + j][i] * u1 + at.factor[6 + j][i] * u2 + a * v_z[i];
    }
  }
}

// A frame's v_landmark = -(A^T A sum(h d) + axis sum(v_z)), from a frame's sums.
template <class Args, class T>
NLDF_HD void landmark_place_gradient(const Args& args, int64_t frame, int64_t l,
                                     const T sums[kLandmarkSums]) {
  T axis[3], u[3] = {};
  landmark_axis(args, frame, axis);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) u[i] += args.factors[(3 * i + j) * args.count + l] * sums[6 + j];
  for (int j = 0; j < 3; ++j) {
    T v = axis[j] * sums[9];
    for (int i = 0; i < 3; ++i) v += args.factors[(3 * i + j) * args.count + l] * u[i];
    args.v_landmarks[3 * (frame * args.count + l) + j] = -v;
  }
}

// The gradient of a unit quaternion from that of the columns of its R.
template <class T>
NLDF_HD void landmark_unit_gradient(const T unit[4], const T v[3][3], T v_unit[4]) {
  const T w = unit[0], x = unit[1], y = unit[2], z = unit[3];
  v_unit[0] = 2 * (z * (v[0][1] - v[1][0]) + y * (v[2][0] - v[0][2]) + x * (v[1][2] - v[2][1]));
  v_unit[1] = 2 * (y * (v[1][0] + v[0][1]) + z * (v[2][0] + v[0][2]) + w * (v[1][2] - v[2][1])) -
              4 * x * (v[1][1] + v[2][2]);
  v_unit[2] = 2 * (x * (v[1][0] + v[0][1]) + w * (v[2][0] - v[0][2]) + z * (v[2][1] + v[1][2])) -
              4 * y * (v[0][0] + v[2][2]);
  v_unit[3] = 2 * (w * (v[0][1] - v[1][0]) + x * (v[2][0] + v[0][2]) + y * (v[2][1] + v[1][2])) -
              4 * z * (v[0][0] + v[1][1]);
}

// v_rotation and v_log_scale of landmark l from the sums over all frames. With M = sum(h d d^T) the gradient
// of A is A M, whose row i depends on log_scale i and on column i of R.
template <class Args, class T>
NLDF_HD void landmark_shape_gradient(const Args& args, int64_t l, const T sums[kLandmarkSums]) {
  const T m[3][3] = {{sums[0], sums[1], sums[2]}, {sums[1], sums[3], sums[4]}, {sums[2], sums[4], sums[5]}};
  T unit[4], v_columns[3][3], v_unit[4];
  const T inverse_length = static_cast<T>(landmark_unit(args.rotations + 4 * l, unit));
  for (int i = 0; i < 3; ++i) {
    const T inverse = exponential(-args.log_scales[3 * l + i]);
    T along = 0;
    for (int j = 0; j < 3; ++j) {
      T v_factor = 0;
      for (int k = 0; k < 3; ++k) v_factor += args.factors[(3 * i + k) * args.count + l] * m[k][j];
      along += v_factor * args.factors[(3 * i + j) * args.count + l];
      v_columns[i][j] = inverse * v_factor;
    }
    args.v_log_scales[3 * l + i] = -along;
  }
  landmark_unit_gradient(unit, v_columns, v_unit);
  T along = 0;
  for (int i = 0; i < 4; ++i) along += unit[i] * v_unit[i];
  for (int i = 0; i < 4; ++i) args.v_rotations[4 * l + i] = (v_unit[i] - unit[i] * along) * inverse_length;
}

template <class T>
void landmarks_cpu(const LandmarksArgs<T>& args, const Exec& exec);
template <class T>
void landmarks_backward_cpu(const LandmarksBackwardArgs<T>& args, const Exec& exec);
void landmarks_cuda(const LandmarksArgs<float>& args, const Exec& exec);
void landmarks_backward_cuda(const LandmarksBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
