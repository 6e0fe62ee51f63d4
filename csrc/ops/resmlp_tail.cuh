// The last step of the fused ResMLP kernels: from a lane's share of a ray's outputs to the ray's pixel.
#pragma once

#include "core/launch.cuh"
#include "ops/resmlp_cuda.h"

namespace nldf {

// The four lanes of a quad share a ray. Each adds what it holds; store() puts the shares together.
class Pixel {
 public:
  // Output `col` of `outputs`: three colours a segment, and last the logit of the opacity.
  __device__ __forceinline__ void add(int col, int outputs, float value) {
    const bool last = col == outputs - 1;
    const int channel = last ? 3 : col % 3;
    red_ += channel == 0 ? value : 0.0f;
    green_ += channel == 1 ? value : 0.0f;
    blue_ += channel == 2 ? value : 0.0f;
    logit_ += channel == 3 ? value : 0.0f;
  }
  // All lanes of the warp call it; the first lane of a quad writes, where `valid`.
  __device__ __forceinline__ void store(float* pixel, bool valid) {
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
      red_ += __shfl_xor_sync(0xffffffffu, red_, lanes);
      green_ += __shfl_xor_sync(0xffffffffu, green_, lanes);
      blue_ += __shfl_xor_sync(0xffffffffu, blue_, lanes);
      logit_ += __shfl_xor_sync(0xffffffffu, logit_, lanes);
    }
    const float opacity = 1.0f / (1.0f + expf(-logit_));
    if (threadIdx.x % 4 == 0 && valid) {
      *reinterpret_cast<float4*>(pixel) =
          make_float4(red_ * opacity, green_ * opacity, blue_ * opacity, opacity);
    }
  }

 private:
  float red_ = 0, green_ = 0, blue_ = 0, logit_ = 0;
};

}  // namespace nldf
