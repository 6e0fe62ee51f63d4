// The residual MLP of NLDF (section 3.1): head, blocks, one skip over all of them, tail.
//
//   y = relu(W_h x + b_frame);  z = y;  z += W_2 relu(W_1 z + b_1) + b_2 for each block;
//   out = W_t (z + y) + b_t, and W_t y + b_t where there are no blocks.
//
// The audio code is one vector a frame, so its share of the first layer is the bias of that frame.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "core/panels.h"

namespace nldf {

template <class T>
struct ResmlpArgs {
  NLDF_FIELDS(
      (const T*, x),           // [F, P, in]
      (const T*, frame_bias),  // [F, width]
      (const T*, head),        // packed [width / 16][in][16]
      (const T*, body),        // packed [2 blocks][width / 16][width][16]; null where integers are given
      (const T*, body_bias),   // [2 blocks][width]
      (const T*, tail),        // packed [ceil(out / 16)][width][16]
      (const T*, tail_bias),   // [out]
      (T*, out),               // [F, P, out]
      (int64_t, frames),       // F
      (int64_t, rays),         // P
      (int64_t, in_dim),       // of x
      (int64_t, width),        // a multiple of 16
      (int64_t, blocks), (int64_t, out_dim),
      // The body in int16: a weight is body_int16 * body_scale of its output feature, an activation is an
      // integer of at most `levels` times its ray's scale. Sums are exact in int32 (who packs sees to that).
      (const int16_t*, body_int16),  // packed [2 blocks][width / 16][width / 2][16][2], or null
      // In 8 bits likewise, but that activations have 255 steps of their ray's from its lowest one on.
      (const int8_t*, body_int8),  // packed [2 blocks][width / 16][width / 4][16][4], or null
      (const T*, body_scale),      // [2 blocks][width], or null
      (const T*, body_sums),       // [2 blocks][width] of body_int8 * body_scale over the inputs, or null
      (int64_t, levels));
};

// Gradients of the network. Nothing but the input is kept from the forward pass: rays are taken in groups,
// whose activations are computed again into `workspace`, so its size depends on no number of rays.
template <class T>
struct ResmlpBackwardArgs {
  NLDF_FIELDS((const T*, x),                // [F, P, in]
              (const T*, frame_bias),       // [F, width]
              (const T*, head),             // packed, as in ResmlpArgs
              (const T*, body),             // packed
              (const T*, body_bias),        // [2 blocks][width]
              (const T*, head_transposed),  // packed [ceil(in / 16)][width][16]; null where v_x is
              (const T*, body_transposed),  // [2 blocks][width / 16][width][16]
              (const T*, tail_transposed),  // [width / 16][out][16]
              (const T*, v_out),            // [F, P, out]
              (T*, workspace),              // ResmlpWorkspace::size() scalars
              (T*, v_x),                    // [F, P, in], or null where not wanted
              (T*, v_frame_bias),           // [F, width]; this and what follows are added to: pass zeros
              (T*, v_head),                 // [width, in]
              (T*, v_body),                 // [2 blocks, width, width]
              (T*, v_body_bias),            // [2 blocks, width]
              (T*, v_tail),                 // [out, width]
              (T*, v_tail_bias),            // [out]
              (int64_t, frames), (int64_t, rays), (int64_t, in_dim), (int64_t, width), (int64_t, blocks),
              (int64_t, out_dim),  // all six as in ResmlpArgs
              (int64_t, group));   // rays of a group
};

// What the workspace holds of a group, each in panels [features / 16][group][16]: per block its input,
// its hidden activations and the gradients of both linear layers' outputs; then the tail's input, the
// gradient of the head's output, the rays' inputs and the gradients of their outputs.
struct ResmlpWorkspace {
  int64_t group, width, blocks, in_panels, out_panels;

  NLDF_HD int64_t trunk(int64_t slot) const { return slot * group * width; }
  NLDF_HD int64_t input(int64_t block) const { return trunk(block); }
  NLDF_HD int64_t hidden(int64_t block) const { return trunk(blocks + block); }
  NLDF_HD int64_t v_output(int64_t block) const { return trunk(2 * blocks + block); }
  NLDF_HD int64_t v_hidden(int64_t block) const { return trunk(3 * blocks + block); }
  NLDF_HD int64_t sum() const { return trunk(4 * blocks); }
  NLDF_HD int64_t v_first() const { return trunk(4 * blocks + 1); }
  NLDF_HD int64_t x() const { return trunk(4 * blocks + 2); }
  NLDF_HD int64_t v_out() const { return x() + in_panels * group * kPanel; }
  NLDF_HD int64_t size() const { return v_out() + out_panels * group * kPanel; }
};

// Rays of one frame that a thread takes through the whole network.
struct ResmlpTile {
  int64_t frame;
  int64_t first;  // number of the first ray among all F * P
  int64_t rows;
};

// Gradients of the weights of one panel of a layer, over the rays of a group:
//   v_weights[n][k] += sum over rays of v_y[ray][n] x[ray][k].
template <class T>
struct ResmlpPanelGradient {
  const T* v_y;  // [group][16] of the panel
  const T* x;    // panels [ceil(inputs / 16)][group][16]
  T* v_weights;  // [outputs, inputs]
  T* v_bias;     // [outputs], or null
  int64_t group;
  int64_t rows;     // rays that the group holds
  int64_t outputs;  // at most 16
  int64_t inputs;
};

template <class T>
void resmlp_cpu(const ResmlpArgs<T>& args, const Exec& exec);
template <class T>
void resmlp_backward_cpu(const ResmlpBackwardArgs<T>& args, const Exec& exec);

}  // namespace nldf
