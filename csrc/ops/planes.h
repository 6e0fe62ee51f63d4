// The grid-encoded light field of a ray in one go: planes, grids of features, networks, segment colours.
//
// In unit coordinates of a box, a ray crosses the plane z at start + z * slope. A warp net reads one grid
// where the ray crosses the middle plane; it tells how far to move on each of the M planes, and A further
// numbers. Then each plane's grid is read, and a second network makes of all features the colours c_i and o:
//
//   opacity = sigmoid(opacity_slope * o),   segment i = (c_i + 1 / (2 M)) * opacity.
//
// Inputs that a frame has once are the bias of a network's first layer.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/half.h"
#include "core/hd.h"
#include "core/maths.h"
#include "ops/grid.h"
#include "ops/resmlp.h"

namespace nldf {

constexpr int kPlanesMost = 16;

// `Stored` is what tables and weights are kept in. On CUDA that is Half, and weights are in the order of
// mma.sync's fragments (planes_mma.cuh) instead of this one:
//
// Weights are packed as those of the residual MLP: panels of 16 outputs, [ceil(out / 16)][in][16], one layer
// behind the other: the warp net's hidden layers and tail, then the second network's. Biases, filled up to
// whole panels, follow in the same order, without those of the two first layers. Grids are two-dimensional,
// linearly interpolated, and all of the same number of features.
//
// On the CPU the layers' products may be in int16 (core/int16_layer.h) or in 8 bits (core/int8_layer.h),
// where no gradients are wanted: a weight is an integer times integer_scales of its output, and an input an
// integer of at most int16_levels times its ray's scale, or one of 255 steps. Sums are exact in int32 (who
// packs sees to that).
template <class T, class Stored = T>
struct PlanesNetwork {
  NLDF_FIELDS((const T*, box),     // [4] x, y of the corner at unit coordinates (0, 0), then at (1, 1)
              (const T*, depths),  // [M + 1] z of every plane, then of the middle one
              (const Stored*, warp_table),  // [warp_offsets[warp_levels], features]
              (const int64_t*, tables),  // [M] addresses of tables [offsets[levels], features], on the host
              (const int64_t*, warp_resolutions),  // [warp_levels], on the host
              (const int64_t*, warp_offsets),      // [warp_levels + 1], on the host
              (const int64_t*, resolutions),       // [levels], on the host
              (const int64_t*, offsets),           // [levels + 1], on the host
              (const Stored*, weights),            // packed as said above
              (const T*, biases),                  // of the layers but the two first
              (const int16_t*, int16_weights),     // packed [ceil(out / 16)][ceil(in / 2)][16][2], or null
              (const int8_t*, int8_weights),       // packed [ceil(out / 16)][ceil(in / 4)][16][4], or null
              (const T*, integer_scales),          // [up to whole panels of outputs] of every layer, or null
              (const T*, integer_sums),  // of int8_weights * integer_scales over the inputs, likewise
              (int64_t, int16_levels), (int64_t, warp_levels), (int64_t, levels),  // of the grids
              (int64_t, features),                                                 // of an entry of a table
              (int64_t, planes),                                                   // M, at most kPlanesMost
              (int64_t, ambient),                                                  // A
              (int64_t, width),        // of hidden layers, a multiple of 16
              (int64_t, warp_hidden),  // hidden layers of the warp net, at least 1
              (int64_t, hidden),       // hidden layers of the second network, at least 1
              (T, warp_scale), (T, opacity_slope));

  NLDF_HD int64_t warp_inputs() const { return warp_levels * features + 2; }
  NLDF_HD int64_t warp_outputs() const { return 2 * planes + ambient; }
  NLDF_HD int64_t inputs() const { return planes * levels * features + ambient; }
  NLDF_HD int64_t outputs() const { return 3 * planes + 1; }
};

template <class T, class Stored = T>
struct PlanesArgs {
  using Network = PlanesNetwork<T, Stored>;
  NLDF_FIELDS((const T*, origins),     // [F, P, 3]
              (const T*, directions),  // [F, P, 3]
              (const T*, warp_bias),   // [F, width]
              (const T*, bias),        // [F, width]
              (T*, segments),          // [F, P, M, 3]
              (T*, opacity),           // [F, P]
              (Network, network),      // one for all frames
              (int64_t, frames),       // F
              (int64_t, rays));        // P
};

// What the second network's last output says of the opacity.
template <class T>
NLDF_HD T planes_opacity(T slope, T output) {
  return T(1) / (T(1) + exponential(-slope * output));
}

// A ray in unit coordinates of the box: two divisions by the direction, whatever M is.
template <class T>
NLDF_HD void planes_line(const T* origin, const T* direction, const T* box, T* start, T* slope) {
  for (int axis = 0; axis < 2; ++axis) {
    const T size = box[2 + axis] - box[axis];
    const T along = direction[axis] / direction[2];
    start[axis] = (origin[axis] - origin[2] * along - box[axis]) / size;
    slope[axis] = along / size;
  }
}

template <class T>
void planes_cpu(const PlanesArgs<T>& args, const Exec& exec);
void planes_cuda(const PlanesArgs<float, Half>& args, const Exec& exec);

}  // namespace nldf
