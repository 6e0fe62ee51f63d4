// Points to features of reference pictures: projected, moved by an offset, looked up (DFRF, eq. (1) and (4));
// the only place this mathematics lives.
//
// Reference r sees the point x at (a / w, b / w) with (a, b, w) = M_r [x; 1], in pixels of its map: pixel i's
// centre is at i + 0.5. The offset is added to that; the sum is the place. A feature is interpolated between
// the four pixels around its place, or is that of the pixel it lies in. Places outside of the map are clamped
// to its outermost pixels' centres, where the gradient with respect to them is zero, and NaN ones to the
// first pixel, so that no read leaves the map. A point at or behind the camera is seen at (0, 0).
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

template <class T>
struct ReferencesArgs {
  NLDF_FIELDS((const T*, points),       // [P, 3]
              (const T*, projections),  // [R, 3, 4]
              (const T*, maps),         // [R, H, W, C]
              (const T*, offsets),      // [P, R, 2], or null: none
              (T*, features),           // [P, R, C]
              (T*, places),             // [P, R, 2]
              (int64_t, count),         // P
              (int64_t, references),    // R
              (int64_t, height),        // H, at least 1
              (int64_t, width),         // W, at least 1
              (int64_t, channels),      // C
              (int64_t, nearest));      // 1: the pixel's own feature instead of the interpolated one
};

template <class T>
struct ReferencesBackwardArgs {
  NLDF_FIELDS((const T*, points), (const T*, projections), (const T*, maps),  // as in ReferencesArgs
              (const T*, places),      // [P, R, 2], as the way there has written them
              (const T*, v_features),  // [P, R, C]
              (const T*, v_places),    // [P, R, 2], or null: zero
              (T*, v_points),          // [P, 3], or null where not wanted
              (T*, v_maps),            // [R, H, W, C], zeros that are added to, or null
              (T*, v_offsets),         // [P, R, 2], or null
              (int64_t, count), (int64_t, references), (int64_t, height), (int64_t, width),
              (int64_t, channels), (int64_t, nearest));
};

// A point as a camera sees it.
template <class T>
struct Sight {
  T x, y;   // pixels
  T depth;  // w, or 0 at or behind the camera
};

// The point x as the projection m [3, 4] has it. Comparisons are written so that NaN stays NaN.
template <class T>
NLDF_HD Sight<T> see_point(const T* m, T x, T y, T z) {
  constexpr T kLeastDepth = T(1e-6);
  const T a = m[0] * x + m[1] * y + m[2] * z + m[3];
  const T b = m[4] * x + m[5] * y + m[6] * z + m[7];
  const T w = m[8] * x + m[9] * y + m[10] * z + m[11];
  const bool behind = w <= kLeastDepth;
  const T depth = behind ? T(1) : w;
  return {behind ? T(0) : a / depth, behind ? T(0) : b / depth, behind ? T(0) : w};
}

// Adds to v [3] what the point gets from the gradient (v_x, v_y) of its place.
template <class T>
NLDF_HD void see_point_backward(const T* m, const Sight<T>& seen, T v_x, T v_y, T& v0, T& v1, T& v2) {
  const bool behind = seen.depth == T(0);
  const T inverse = T(1) / (behind ? T(1) : seen.depth);
  const T a = behind ? T(0) : v_x * inverse, b = behind ? T(0) : v_y * inverse;
  const T w = a * seen.x + b * seen.y;
  v0 += a * m[0] + b * m[4] - w * m[8];
  v1 += a * m[1] + b * m[5] - w * m[9];
  v2 += a * m[2] + b * m[6] - w * m[10];
}

// A place along an axis of `size` pixels: the first of the two pixels around it (the only one where there is
// one), and how far it lies from that one's centre, 0 to 1.
template <class T>
NLDF_HD void locate_between(T place, int32_t size, int32_t& pixel, T& fraction) {
  const T last = static_cast<T>(size - 1), position = place - T(0.5);
  const T held = position > T(0) ? (position < last ? position : last) : T(0);
  const int32_t cell = static_cast<int32_t>(held);
  pixel = cell < size - 1 ? cell : (size > 1 ? size - 2 : 0);
  fraction = held - static_cast<T>(pixel);
}

// Whether a change of the place changes the feature: not where it is clamped, or NaN.
template <class T>
NLDF_HD bool place_counts(T place, int32_t size) {
  const T position = place - T(0.5);
  return position >= T(0) && position <= static_cast<T>(size - 1);
}

// The pixel that a place lies in.
template <class T>
NLDF_HD int32_t locate_pixel(T place, int32_t size) {
  const T last = static_cast<T>(size - 1);
  return static_cast<int32_t>(place > T(0) ? (place < last ? place : last) : T(0));
}

template <class T>
void references_cpu(const ReferencesArgs<T>& args, const Exec& exec);
template <class T>
void references_backward_cpu(const ReferencesBackwardArgs<T>& args, const Exec& exec);
void references_cuda(const ReferencesArgs<float>& args, const Exec& exec);
void references_backward_cuda(const ReferencesBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
