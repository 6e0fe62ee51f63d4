// Rays as a training step sees them: from cameras that are moved a little, to places that are; which of them
// may meet the head; and rays as lines in unit coordinates of a box. The only place this mathematics lives.
//
// A frame's camera moves by m, and its rays turn about the points where they cross the plane z = depth. Then
// they turn, about the camera, so that they cross z = 0 not at q but at q + q A + s. A ray may meet the head
// where it crosses a marked cell of a square map about the origin of that plane.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "ops/planes.h"

namespace nldf {

template <class T>
struct AimArgs {
  NLDF_FIELDS((const T*, origins),          // [F, P, 3]
              (const T*, directions),       // [F, P, 3]
              (const T*, moves),            // [F, 3] m
              (const T*, turns),            // [F, 6] A row by row, then s
              (const uint8_t*, occupancy),  // [cells, cells], rows along y
              (const T*, half_size),        // [1] of the square
              (T*, moved),                  // [F, P, 3] the rays' origins
              (T*, turned),                 // [F, P, 3] and directions
              (uint8_t*, inside),           // [F, P] 1 where a ray may meet the head, else 0
              (const T*, v_turned),         // [F, P, 3]; null forward, as is the next
              (T*, v_turns),                // [F, 6]
              (T, depth), (int64_t, frames), (int64_t, rays), (int64_t, cells));
};

template <class T>
struct AimLinesArgs {
  NLDF_FIELDS((const T*, origins), (const T*, directions),  // [N, 3]
              (const T*, box),                              // [4] as in PlanesNetwork
              (T*, lines),                                  // [N, 4] start and slope
              (const T*, v_lines),                          // [N, 4]; null forward, as are the next
              (T*, v_origins),                              // [N, 3], or null
              (T*, v_directions),                           // [N, 3]
              (int64_t, rays));
};

// One ray, aimed anew.
template <class T>
struct Aimed {
  T origin[3], direction[3], crossing[2], size;

  NLDF_HD Aimed(const AimArgs<T>& args, int64_t frame, int64_t i) {
    const T *const from = args.origins + 3 * i, *const along = args.directions + 3 * i;
    const T *const move = args.moves + 3 * frame, *const turn = args.turns + 6 * frame;
    const T distance = (args.depth - from[2]) / along[2];
    T towards[3];
    for (int c = 0; c < 3; ++c) {
      origin[c] = from[c] + move[c];
      towards[c] = from[c] + distance * along[c] - origin[c];
    }
    const T far = -origin[2] / towards[2];
    for (int c = 0; c < 2; ++c) crossing[c] = origin[c] + far * towards[c];
    for (int c = 0; c < 2; ++c)
      direction[c] =
          crossing[c] + crossing[0] * turn[c] + crossing[1] * turn[2 + c] + turn[4 + c] - origin[c];
    direction[2] = -origin[2];
    size = std::sqrt(direction[0] * direction[0] + direction[1] * direction[1] + direction[2] * direction[2]);
    for (int c = 0; c < 3; ++c) direction[c] /= size;
  }

  NLDF_HD void store(const AimArgs<T>& args, int64_t i) const {
    bool inside = true;
    int64_t cell[2];
    for (int c = 0; c < 2; ++c) {
      const T place = origin[c] + size * direction[c];
      const T unit = place / args.half_size[0] * T(0.5) + T(0.5);
      inside = inside && unit >= T(0) && unit < T(1);
      const T held = unit < T(1 - 1e-6) ? unit : T(1 - 1e-6);
      cell[c] = static_cast<int64_t>((inside ? held : T(0)) * static_cast<T>(args.cells));
      args.moved[3 * i + c] = origin[c];
      args.turned[3 * i + c] = direction[c];
    }
    args.moved[3 * i + 2] = origin[2];
    args.turned[3 * i + 2] = direction[2];
    args.inside[i] = inside && args.occupancy[cell[1] * args.cells + cell[0]] ? 1 : 0;
  }

  // Adds to the gradients [6] of the frame's turn.
  NLDF_HD void back(const T* v, T* sums) const {
    if (v[0] == T(0) && v[1] == T(0) && v[2] == T(0)) return;  // it may be a ray of no numbers
    const T along = direction[0] * v[0] + direction[1] * v[1] + direction[2] * v[2];
    for (int c = 0; c < 2; ++c) {
      const T v_place = (v[c] - direction[c] * along) / size;
      sums[c] += crossing[0] * v_place;
      sums[2 + c] += crossing[1] * v_place;
      sums[4 + c] += v_place;
    }
  }
};

// The gradients of a ray's line.
template <class T>
NLDF_HD void aim_line_back(const AimLinesArgs<T>& args, int64_t i) {
  const T *const origin = args.origins + 3 * i, *const direction = args.directions + 3 * i;
  const T* const v = args.v_lines + 4 * i;
  if (v[0] == T(0) && v[1] == T(0) && v[2] == T(0) && v[3] == T(0)) {  // it may be a ray of no numbers
    for (int c = 0; c < 3; ++c) {
      if (args.v_origins) args.v_origins[3 * i + c] = T(0);
      args.v_directions[3 * i + c] = T(0);
    }
    return;
  }
  T v_origin_z = 0, v_direction_z = 0;
  for (int axis = 0; axis < 2; ++axis) {
    const T size = args.box[2 + axis] - args.box[axis], along = direction[axis] / direction[2];
    const T v_start = v[axis] / size, v_slope = v[2 + axis] / size;
    const T v_along = v_slope - origin[2] * v_start;
    v_origin_z -= along * v_start;
    v_direction_z -= along * v_along / direction[2];
    if (args.v_origins) args.v_origins[3 * i + axis] = v_start;
    args.v_directions[3 * i + axis] = v_along / direction[2];
  }
  if (args.v_origins) args.v_origins[3 * i + 2] = v_origin_z;
  args.v_directions[3 * i + 2] = v_direction_z;
}

template <class T>
void aim_cpu(const AimArgs<T>& args, const Exec& exec);
template <class T>
void aim_backward_cpu(const AimArgs<T>& args, const Exec& exec);
template <class T>
void aim_lines_cpu(const AimLinesArgs<T>& args, const Exec& exec);
template <class T>
void aim_lines_backward_cpu(const AimLinesArgs<T>& args, const Exec& exec);
void aim_cuda(const AimArgs<float>& args, const Exec& exec);
void aim_backward_cuda(const AimArgs<float>& args, const Exec& exec);
void aim_lines_cuda(const AimLinesArgs<float>& args, const Exec& exec);
void aim_lines_backward_cuda(const AimLinesArgs<float>& args, const Exec& exec);

}  // namespace nldf
