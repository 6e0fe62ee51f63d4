// Arguments of the fused ResMLP kernels (resmlp_mma_cuda.cu, resmlp_wgmma_cuda.cu): fp16 weights and
// activations, fp32 sums, biases, inputs and outputs. The input is given, or it is the frequency encoding of
// beams (beams.h), which the kernels then make of rays as they go: no encoded beam is in global memory.
//
//   x_0 = relu(head(input) + bias of the ray's frame)
//   x_{b+1} = x_b + fc2(relu(fc1(x_b)))                 rounded to fp16
//   out = tail(x_B + x_0), or tail(x_0) without blocks
//   pixels = (A sum_i c_i, A) with c the first 3M outputs and A = sigmoid(the last one)
#pragma once

#include <cstdint>
#include <tuple>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

struct ResmlpCudaArgs {
  const float* input;       // [R, in_dim], or null where rays are given
  const float* origins;     // [R, 3], or null
  const float* directions;  // [R, 3], or null
  const uint16_t* weights;  // resmlp_pack()'s stream in the kernel's layout
  const float* head_bias;   // [F, width]: the head's bias plus the frame's code
  const float* body_bias;   // [layers, width]
  const float* tail_bias;   // [out_dim]
  uint16_t* first;          // [blocks, rows, width]: scratch for x_0, in an order of the kernel's own
  float* out;               // [R, out_dim], or null
  float* pixels;            // [R, 4], or null
  uint16_t* dump;           // [R, width] halves after layer `dump_layer`, or null
  int64_t rays;             // R
  int64_t rays_per_frame;   // R / F
  int64_t in_dim;           // columns of the input, or beam_places()
  int64_t out_dim;
  int64_t width;
  int64_t layers;      // twice the number of residual blocks
  int64_t dump_layer;  // 0 is the head; 2b + 1 and 2b + 2 are fc1 and fc2 of block b
  int64_t rows;        // rays of a thread block
  int64_t blocks;      // thread blocks to launch
  int64_t turns;       // wgmma: 1 lets the two computing warpgroups take turns at the tensor cores
  int64_t points;      // K of the beams; this and the next are not read where the input is given
  float near_, far_;   // distances of the first and last point
  float scale;         // multiplies the points before they are encoded

  static constexpr auto fields() {
    using A = ResmlpCudaArgs;
    return std::make_tuple(
        field("input", &A::input), field("origins", &A::origins), field("directions", &A::directions),
        field("weights", &A::weights), field("head_bias", &A::head_bias), field("body_bias", &A::body_bias),
        field("tail_bias", &A::tail_bias), field("first", &A::first), field("out", &A::out),
        field("pixels", &A::pixels), field("dump", &A::dump), field("rays", &A::rays),
        field("rays_per_frame", &A::rays_per_frame), field("in_dim", &A::in_dim),
        field("out_dim", &A::out_dim), field("width", &A::width), field("layers", &A::layers),
        field("dump_layer", &A::dump_layer), field("rows", &A::rows), field("blocks", &A::blocks),
        field("turns", &A::turns), field("points", &A::points), field("near", &A::near_),
        field("far", &A::far_), field("scale", &A::scale));
  }
};

// mma.sync: compute capability 8.0 and newer; width 16, 32, 64, 128 or 256, rows 64 or 128.
// At most 32 outputs, 16 at width 16.
void resmlp_mma_cuda(const ResmlpCudaArgs& args, const Exec& exec);
// wgmma: compute capability 9.0 alone; width 256, rows 128.
void resmlp_wgmma_cuda(const ResmlpCudaArgs& args, const Exec& exec);

}  // namespace nldf
