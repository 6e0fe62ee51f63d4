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

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

struct ResmlpCudaArgs {
  NLDF_FIELDS((const float*, input),       // [R, in_dim], or null where rays are given
              (const float*, origins),     // [R, 3], or null
              (const float*, directions),  // [R, 3], or null
              (const uint16_t*, weights),  // resmlp_pack()'s stream in the kernel's layout
              (const float*, head_bias),   // [F, width]: the head's bias plus the frame's code
              (const float*, body_bias),   // [layers, width]
              (const float*, tail_bias),   // [out_dim]
              (uint16_t*, first),  // [blocks, rows, width]: scratch for x_0, in an order of the kernel's own
              (float*, out),       // [R, out_dim], or null
              (float*, pixels),    // [R, 4], or null
              (uint16_t*, dump),   // [R, width] halves after layer `dump_layer`, or null
              (int64_t, rays),     // R
              (int64_t, rays_per_frame),  // R / F
              (int64_t, in_dim),          // columns of the input, or beam_places()
              (int64_t, out_dim),         // columns of out
              (int64_t, width),           // of the trunk
              (int64_t, layers),          // twice the number of residual blocks
              (int64_t, dump_layer),      // 0 is the head; 2b + 1 and 2b + 2 are fc1 and fc2 of block b
              (int64_t, rows),            // rays of a thread block
              (int64_t, blocks),          // thread blocks to launch
              (int64_t, turns),   // wgmma: 1 lets the two computing warpgroups take turns at the tensor cores
              (int64_t, points),  // K of the beams; this and the next are not read where the input is given
              (float, near), (float, far),  // distances of the first and last point
              (float, scale));              // multiplies the points before they are encoded
};

// mma.sync: compute capability 8.0 and newer; width 16, 32, 64, 128 or 256, rows 64 or 128.
// At most 32 outputs, 16 at width 16.
void resmlp_mma_cuda(const ResmlpCudaArgs& args, const Exec& exec);
// wgmma: compute capability 9.0 alone; width 256, rows 128.
void resmlp_wgmma_cuda(const ResmlpCudaArgs& args, const Exec& exec);

}  // namespace nldf
