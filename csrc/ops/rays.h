// Pixels and camera poses to rays; the only place this mathematics lives.
//
// A pixel (x, y) looks along w = R ((x - cx) / fx, (y - cy) / fy, 1), where R and t are the rotation and
// translation of the camera-to-head pose: the ray starts at t and points along d = w / |w|.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

template <class T>
struct RaysArgs {
  NLDF_FIELDS((const T*, pose),        // [F, 4, 4] camera to head
              (const T*, intrinsics),  // [F, 4] fx, fy, cx, cy in pixels
              (const T*, pixels),      // [F, P, 2] x, y; a pixel's centre lies at +0.5
              (T*, origins),           // [F, P, 3]
              (T*, directions),        // [F, P, 3] unit length
              (int64_t, frames),       // F
              (int64_t, per_frame));   // P
};

// The 16 gradients of a frame: rows of [R | t] (12), then fx, fy, cx, cy.
constexpr int kRayGradients = 16;

template <class T>
struct RaysBackwardArgs {
  NLDF_FIELDS((const T*, pose),          // [F, 4, 4]
              (const T*, intrinsics),    // [F, 4]
              (const T*, pixels),        // [F, P, 2]
              (const T*, v_origins),     // [F, P, 3]
              (const T*, v_directions),  // [F, P, 3]
              (T*, partial),  // [F, B, 16] sums over blocks of pixels; without atomics, so that they repeat
              (int64_t, frames),     // F
              (int64_t, per_frame),  // P
              (int64_t, block));     // pixels in a block; B = ceil(P / block)
};

// One frame's camera in registers.
template <class T>
struct RayCamera {
  T rotation[9];
  T origin[3];
  T fx, fy, cx, cy;
};

template <class T>
NLDF_HD RayCamera<T> load_camera(const T* pose, const T* intrinsics, int64_t frame) {
  RayCamera<T> camera;
  const T* matrix = pose + 16 * frame;
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column) camera.rotation[3 * row + column] = matrix[4 * row + column];
    camera.origin[row] = matrix[4 * row + 3];
  }
  const T* k = intrinsics + 4 * frame;
  camera.fx = k[0], camera.fy = k[1], camera.cx = k[2], camera.cy = k[3];
  return camera;
}

// The camera-space direction is (u, v, 1).
template <class T>
NLDF_HD void rotate(const RayCamera<T>& camera, T u, T v, T w[3]) {
  for (int row = 0; row < 3; ++row) {
    const T* r = camera.rotation + 3 * row;
    w[row] = r[0] * u + r[1] * v + r[2];
  }
}

template <class T>
NLDF_HD void make_ray(const RayCamera<T>& camera, const T* pixel, T* origin, T* direction) {
  T w[3];
  rotate(camera, (pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, w);
  const T length = sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2]);
  for (int axis = 0; axis < 3; ++axis) {
    origin[axis] = camera.origin[axis];
    direction[axis] = w[axis] / length;
  }
}

// Adds one pixel's share to the 16 `sums`, which lie `stride` apart. Sum may be wider than T: a frame has
// many pixels.
template <class T, class Sum>
NLDF_HD void make_ray_backward(const RayCamera<T>& camera, const T* pixel, const T* v_origin,
                               const T* v_direction, Sum* sums, int stride = 1) {
  const T u = (pixel[0] - camera.cx) / camera.fx;
  const T v = (pixel[1] - camera.cy) / camera.fy;
  T w[3];
  rotate(camera, u, v, w);
  const T inverse = T(1) / sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2]);
  // d = w / |w|, so v_w = (v_d - d (d . v_d)) / |w|.
  T along = 0;
  for (int axis = 0; axis < 3; ++axis) along += w[axis] * inverse * v_direction[axis];
  T v_u = 0, v_v = 0;
  for (int row = 0; row < 3; ++row) {
    const T v_w = (v_direction[row] - w[row] * inverse * along) * inverse;
    v_u += camera.rotation[3 * row] * v_w;
    v_v += camera.rotation[3 * row + 1] * v_w;
    sums[(4 * row) * stride] += v_w * u;
    sums[(4 * row + 1) * stride] += v_w * v;
    sums[(4 * row + 2) * stride] += v_w;
    sums[(4 * row + 3) * stride] += v_origin[row];
  }
  sums[12 * stride] -= v_u * u / camera.fx;
  sums[13 * stride] -= v_v * v / camera.fy;
  sums[14 * stride] -= v_u / camera.fx;
  sums[15 * stride] -= v_v / camera.fy;
}

template <class T>
void rays_cpu(const RaysArgs<T>& args, const Exec& exec);
template <class T>
void rays_backward_cpu(const RaysBackwardArgs<T>& args, const Exec& exec);
void rays_cuda(const RaysArgs<float>& args, const Exec& exec);
void rays_backward_cuda(const RaysBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
