// The input of the fused ResMLP kernels, four columns of a ray at a time. Where they are given rays it is the
// beam's encoding, made right where a thread needs it: the mathematics of beams.h, in resmlp_pack.h's order.
#pragma once

#include "core/launch.cuh"
#include "ops/beams.h"
#include "ops/resmlp_cuda.h"
#include "ops/resmlp_pack.h"

namespace nldf {

// What beam_distance() reads, in 32 bits.
struct ResmlpBeam {
  int points;
  float near, far, scale;
};

__device__ __forceinline__ float resmlp_coordinate(const ResmlpCudaArgs& args, const ResmlpBeam& beam,
                                                   int64_t ray, int c) {
  const int64_t at = 3 * ray + c % 3;
  return beam_coordinate(__ldg(args.origins + at), __ldg(args.directions + at), beam_distance(beam, c / 3),
                         beam.scale);
}

// Inputs of a ray at four places from `place` on, a multiple of four.
__device__ __forceinline__ float4 resmlp_beam(const ResmlpCudaArgs& args, int64_t ray, int place) {
  const ResmlpBeam beam{static_cast<int>(args.points), args.near, args.far, args.scale};
  const int n = 3 * beam.points, first = static_cast<int>(beam_first_pair(n));
  float v[4];
  if (place < first) {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = place + i < n ? resmlp_coordinate(args, beam, ray, place + i) : 0.0f;
  } else {
    const int pair = (place - first) / 2;
    int level = pair / n, c = pair - level * n;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      Angle<float> angle;
      make_angle(resmlp_coordinate(args, beam, ray, c), angle);
      sine_cosine(angle, bit_cast<float>(static_cast<uint32_t>(127 + level) << 23), v[i], v[i + 1]);
      if (++c == n) c = 0, ++level;
    }
  }
  return make_float4(v[0], v[1], v[2], v[3]);
}

__device__ __forceinline__ float4 four(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}

// Four columns of one ray's input; zeros outside of it.
__device__ __forceinline__ float4 resmlp_input(const ResmlpCudaArgs& args, int64_t ray, int64_t col) {
  if (ray >= args.rays || col >= args.in_dim) return make_float4(0, 0, 0, 0);
  if (!args.input) return resmlp_beam(args, ray, static_cast<int>(col));
  const float* from = args.input + ray * args.in_dim + col;
  if (args.in_dim % 4 == 0) return four(from);
  const int64_t left = args.in_dim - col;
  return make_float4(from[0], left > 1 ? from[1] : 0, left > 2 ? from[2] : 0, left > 3 ? from[3] : 0);
}

}  // namespace nldf
