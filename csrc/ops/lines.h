// The light field over planes with its gradients, for rays of any number to a frame: what planes.h computes,
// from lines in unit coordinates of the box, and the gradients of all that it is computed from but the
// tables.
//
// A line crosses the plane z at start + z * slope (`planes_line` makes it of a ray). Activations are kept for
// the way back where it is to come. The gradients of the tables are those of ops.encode_grid at the places
// and for the gradients of features that are given back.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "ops/planes.h"

namespace nldf {

template <class T>
struct LinesArgs {
  NLDF_FIELDS((const T*, lines),         // [N, 4] start x, y, slope x, y; a frame's lie one behind the other
              (const int64_t*, starts),  // [F + 1] each frame's first line, then N; on the host
              (const T*, warp_bias),     // [F, width]
              (const T*, bias),          // [F, width]
              (T*, segments),            // [N, M, 3]
              (T*, opacity),             // [N]
              (T*, kept),                // [N + kLinesRoom F, lines_kept()], or null where no way back comes
              (PlanesNetwork<T>, network),  // as in planes.h
              (int64_t, frames));           // F
};

// Gradients of weights lie as rows of outputs, [outputs][inputs], both filled up to multiples of 16, one
// layer behind the other as in PlanesNetwork; those of biases as the biases do. `parts` ranges of rays have
// sums of their own, which are added up in order at the end: results depend on that number, not on the
// threads' luck.
template <class T>
struct LinesBackwardArgs {
  NLDF_FIELDS((const T*, lines), (const int64_t*, starts), (const T*, warp_bias), (const T*, bias),
              (const T*, transposed),  // packed transposes of the weights, layer by layer in the same order
              (const T*, v_segments),  // [N, M, 3]
              (const T*, v_opacity),   // [N]
              (T*, kept),              // as the forward pass left it
              (T*, v_lines),           // [N, 4]
              (T*, v_warp_bias),       // [parts, F, width]; this and the next three are added to: pass zeros
              (T*, v_bias),            // [parts, F, width]
              (T*, v_weights),         // [parts, sum of outputs * inputs]
              (T*, v_biases),          // [parts, as biases]
              (T*, warp_places),       // [N, 2] where the warp net's grid was read
              (T*, v_warp_features),   // [N, warp_levels * features]
              (T*, places),            // [M, N, 2]
              (T*, v_features),        // [M, N, levels * features]
              (PlanesNetwork<T>, network), (int64_t, frames), (int64_t, parts));
};

// The most layers of the two networks together.
constexpr int kPlanesLayers = 32;

// Numbers filled up to whole panels.
NLDF_HD int64_t planes_wide(int64_t count) {
  return (count + kPanel - 1) / kPanel * kPanel;
}
// Rays that a frame's last group is filled up by, at most.
constexpr int64_t kLinesRoom = 16;
// Scalars that are kept of a ray: places, and all layers' inputs and outputs, up to whole panels.
template <class T>
NLDF_HD int64_t lines_kept(const PlanesNetwork<T>& net) {
  return 2 * (net.planes + 1) + planes_wide(net.warp_inputs()) + planes_wide(net.warp_outputs()) +
         planes_wide(net.inputs()) + planes_wide(net.outputs()) + (net.warp_hidden + net.hidden) * net.width;
}
// Scalars of the gradients of all weights, and of all biases.
template <class T>
NLDF_HD int64_t planes_weights(const PlanesNetwork<T>& net) {
  const int64_t w = net.width;
  return w * (planes_wide(net.warp_inputs()) + (net.warp_hidden - 1) * w + planes_wide(net.warp_outputs()) +
              planes_wide(net.inputs()) + (net.hidden - 1) * w + planes_wide(net.outputs()));
}
template <class T>
NLDF_HD int64_t planes_biases(const PlanesNetwork<T>& net) {
  return (net.warp_hidden + net.hidden - 2) * net.width + planes_wide(net.warp_outputs()) +
         planes_wide(net.outputs());
}

template <class T>
void lines_cpu(const LinesArgs<T>& args, const Exec& exec);
template <class T>
void lines_backward_cpu(const LinesBackwardArgs<T>& args, const Exec& exec);

}  // namespace nldf
