// The residual MLP of NLDF (section 3.1): head, blocks, one skip over all of them, tail.
//
//   y = relu(W_h x + b_frame);  z = y;  z += W_2 relu(W_1 z + b_1) + b_2 for each block;
//   out = W_t (z + y) + b_t, and W_t y + b_t where there are no blocks.
//
// The audio code is one vector a frame, so its share of the first layer is the bias of that frame.
#pragma once

#include <cstdint>
#include <tuple>

#include "fields.h"
#include "hd.h"

namespace nldf {

// Weights are packed in panels of this many output features: [ceil(out / 16)][in][16], zeros behind the
// last feature. The width of the trunk is a multiple of it.
constexpr int kPanel = 16;

NLDF_HD int64_t panels(int64_t features) {
  return (features + kPanel - 1) / kPanel;
}

// Where the weight of output `feature` and input `k` of `inputs` lies.
NLDF_HD int64_t packed_index(int64_t feature, int64_t k, int64_t inputs) {
  return ((feature / kPanel) * inputs + k) * kPanel + feature % kPanel;
}

// The same for int16 weights, of which two neighbouring inputs lie together: [out / 16][in / 2][16][2].
NLDF_HD int64_t packed_pair_index(int64_t feature, int64_t k, int64_t inputs) {
  return (((feature / kPanel) * (inputs / 2) + k / 2) * kPanel + feature % kPanel) * 2 + k % 2;
}

template <class T>
struct ResmlpArgs {
  const T* x;           // [F, P, in]
  const T* frame_bias;  // [F, width]
  const T* head;        // packed [width / 16][in][16]
  const T* body;        // packed [2 blocks][width / 16][width][16]; null where body_int16 is given
  const T* body_bias;   // [2 blocks][width]
  const T* tail;        // packed [ceil(out / 16)][width][16]
  const T* tail_bias;   // [out]
  T* out;               // [F, P, out]
  int64_t frames;       // F
  int64_t rays;         // P
  int64_t in_dim;
  int64_t width;  // a multiple of 16
  int64_t blocks;
  int64_t out_dim;
  // The body in int16: a weight is body_int16 * body_scale of its output feature, an activation is an
  // integer of at most `levels` times its ray's scale. Sums are exact in int32 (who packs sees to that).
  const int16_t* body_int16;  // packed [2 blocks][width / 16][width / 2][16][2], or null
  const T* body_scale;        // [2 blocks][width], or null
  int64_t levels;

  static constexpr auto fields() {
    return std::make_tuple(field("x", &ResmlpArgs::x), field("frame_bias", &ResmlpArgs::frame_bias),
                           field("head", &ResmlpArgs::head), field("body", &ResmlpArgs::body),
                           field("body_bias", &ResmlpArgs::body_bias), field("tail", &ResmlpArgs::tail),
                           field("tail_bias", &ResmlpArgs::tail_bias), field("out", &ResmlpArgs::out),
                           field("frames", &ResmlpArgs::frames), field("rays", &ResmlpArgs::rays),
                           field("in_dim", &ResmlpArgs::in_dim), field("width", &ResmlpArgs::width),
                           field("blocks", &ResmlpArgs::blocks), field("out_dim", &ResmlpArgs::out_dim),
                           field("body_int16", &ResmlpArgs::body_int16),
                           field("body_scale", &ResmlpArgs::body_scale),
                           field("levels", &ResmlpArgs::levels));
  }
};

// Rays of one frame that a thread takes through the whole network.
struct ResmlpTile {
  int64_t frame;
  int64_t first;  // number of the first ray among all F * P
  int64_t rows;
};

template <class T>
void resmlp_cpu(const ResmlpArgs<T>& args, const Exec& exec);

// The instruction set that resmlp_cpu uses: "avx512", "avx2" or "portable". The environment variable
// NLDF_CPU_ISA names another one. Throws std::invalid_argument where it names one that isn't there.
const char* resmlp_isa();

}  // namespace nldf
