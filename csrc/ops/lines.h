// The light field over planes with its gradients, as it is trained: what planes.h computes, from lines in
// unit coordinates of the box, and the gradients of all that it is computed from.
//
// A line crosses the plane z at start + z * slope (`planes_line` makes it of a ray). Lines that are not
// `inside` see nothing and are not evaluated. Parameters are read where they are, in rows of outputs; what a
// frame has once are further columns of the first layers, behind those of a line. Activations are kept for
// the way back where it is to come.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "ops/planes.h"

namespace nldf {

// Parameters stand in the order: the warp's table and those of the planes, the warp net's layers (hidden ones
// and a tail), the second network's.
struct LinesNetwork {
  NLDF_FIELDS((const double*, depths),             // [M + 1] z of every plane, then of the middle one
              (const int64_t*, tables),            // [1 + M] addresses of tables [entries, features]
              (const int64_t*, weights),           // [layers] addresses of weights [outputs, inputs]
              (const int64_t*, biases),            // [layers] addresses of biases [outputs]
              (const int64_t*, warp_resolutions),  // as in PlanesNetwork; all of these arrays are on the host
              (const int64_t*, warp_offsets), (const int64_t*, resolutions), (const int64_t*, offsets),
              (int64_t, warp_levels), (int64_t, levels), (int64_t, features), (int64_t, planes),
              (int64_t, ambient), (int64_t, width), (int64_t, warp_hidden), (int64_t, hidden),
              (int64_t, frame),  // C, numbers of a frame
              (double, warp_scale), (double, opacity_slope));

  NLDF_HD int64_t layers() const { return warp_hidden + hidden + 2; }
  NLDF_HD int64_t warp_layers() const { return warp_hidden + 1; }
  NLDF_HD bool first(int64_t layer) const { return layer == 0 || layer == warp_layers(); }
  NLDF_HD bool tail(int64_t layer) const { return layer + 1 == warp_layers() || layer + 1 == layers(); }
  // Of a layer: inputs but the frame's, all of them, and outputs.
  NLDF_HD int64_t inputs(int64_t layer) const {
    if (!first(layer)) return width;
    return layer ? planes * levels * features + ambient : warp_levels * features + 2;
  }
  NLDF_HD int64_t columns(int64_t layer) const { return inputs(layer) + (first(layer) ? frame : 0); }
  NLDF_HD int64_t outputs(int64_t layer) const {
    if (!tail(layer)) return width;
    return layer + 1 == layers() ? 3 * planes + 1 : 2 * planes + ambient;
  }
};

template <class T>
struct LinesArgs {
  NLDF_FIELDS((const T*, lines),         // [F, P, 4] start x, y, slope x, y
              (const uint8_t*, inside),  // [F, P] 0 or 1; null: all are
              (const T*, inputs),        // [F, C]
              (T*, segments),            // [F, P, M, 3]
              (T*, opacity),             // [F, P]
              (T*, kept),                // [F (P + kLinesRoom), lines_kept()]; on the CPU null where no way
                                         // back comes
              (LinesNetwork, network), (int64_t, frames), (int64_t, rays));
};

// On CUDA the gradients of tables are added by atomics, in any order; all others are sums in an order that
// depends on `parts` alone.
template <class T>
struct LinesBackwardArgs {
  NLDF_FIELDS((const T*, lines), (const uint8_t*, inside), (const T*, inputs),  // as above
              (const T*, v_segments),                                           // [F, P, M, 3]
              (const T*, v_opacity),                                            // [F, P]
              (T*, kept),                                                       // as the forward pass left it
              (T*, v_lines),                                                    // [F, P, 4]
              (T*, v_inputs),                                                   // [F, C]
              (T*, v_parameters),  // all parameters' gradients, one behind the other: tables, each filled
                                   // up to a multiple of four numbers, weights, biases
              (T*, scratch),       // lines_scratch() scalars on CUDA, else null
              (LinesNetwork, network), (int64_t, frames), (int64_t, rays),
              (int64_t, parts));  // sums of their own: threads, or blocks
};

// The most layers of the two networks together.
constexpr int kPlanesLayers = 32;
// Rays that a frame's last group is filled up by, at most; and on CUDA those of a group.
constexpr int64_t kLinesRoom = 32;

// Numbers filled up to whole panels.
NLDF_HD int64_t planes_wide(int64_t count) {
  return (count + kPanel - 1) / kPanel * kPanel;
}
// Scalars that are kept of a ray: places, and all layers' inputs and outputs, up to whole panels.
template <class Net>
NLDF_HD int64_t lines_kept(const Net& net) {
  const int64_t inputs = net.planes * net.levels * net.features + net.ambient;
  return 2 * (net.planes + 1) + planes_wide(net.warp_levels * net.features + 2) +
         planes_wide(2 * net.planes + net.ambient) + planes_wide(inputs) + planes_wide(3 * net.planes + 1) +
         (net.warp_hidden + net.hidden) * planes_wide(net.width);
}
// Where a table's gradient begins among all, 1 + M: where the weights' begin; and numbers of all weights and
// biases.
NLDF_HD int64_t lines_table(const LinesNetwork& net, int64_t table) {
  if (!table) return 0;
  const int64_t warp = net.warp_offsets[net.warp_levels] * net.features;
  const int64_t each = net.offsets[net.levels] * net.features;
  return (warp + 3) / 4 * 4 + (table - 1) * ((each + 3) / 4 * 4);
}
NLDF_HD int64_t lines_weights(const LinesNetwork& net) {
  int64_t sum = 0;
  for (int64_t l = 0; l < net.layers(); ++l) sum += net.outputs(l) * (net.columns(l) + 1);
  return sum;
}
// The most inputs or outputs of a layer.
NLDF_HD int64_t lines_widest(const LinesNetwork& net) {
  int64_t most = 0;
  for (int64_t l = 0; l < net.layers(); ++l) {
    most = net.columns(l) > most ? net.columns(l) : most;
    most = net.outputs(l) > most ? net.outputs(l) : most;
  }
  return most;
}
// For CUDA: of every part the sums of weights and biases and two layers' gradients of a group, then of every
// group of rays the frame inputs' gradients.
NLDF_HD int64_t lines_scratch(const LinesNetwork& net, int64_t frames, int64_t rays, int64_t parts) {
  const int64_t groups = frames * ((rays + kLinesRoom - 1) / kLinesRoom);
  return parts * (lines_weights(net) + 2 * lines_widest(net) * kLinesRoom) + groups * net.frame;
}

template <class T>
void lines_cpu(const LinesArgs<T>& args, const Exec& exec);
template <class T>
void lines_backward_cpu(const LinesBackwardArgs<T>& args, const Exec& exec);
void lines_cuda(const LinesArgs<float>& args, const Exec& exec);
void lines_backward_cuda(const LinesBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
