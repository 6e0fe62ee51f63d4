// A linear layer of 8-bit weights, with what stands before and behind it in a transformer's block: the layer
// norm of its inputs, and GELU or a sum of its outputs.
//
// A row of inputs has a scale of its own, taken from its largest number, so nothing is calibrated or clipped;
// its numbers become integers of at most 127, whose products with the weights are summed exactly. So a row's
// outputs depend neither on the rows beside it nor on threads.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr int kLinearPanel = 16;    // outputs whose weights lie together
constexpr int kLinearOutputs = 32;  // their number is a multiple of this
constexpr int kLinearInputs = 64;   // and theirs of this
constexpr float kLinearLevels = 127.0f;
constexpr float kLinearEpsilon = 1e-5f;  // of the layer norm

struct LinearArgs {
  NLDF_FIELDS((const float*, x),            // [R, K]
              (const float*, norm_weight),  // [K]; null: no layer norm
              (const float*, norm_bias),    // [K]
              (const int8_t*, weights),     // [N / 16, K / 4, 16, 4]
              (const int32_t*, sums),       // [N] of each output's weights
              (const float*, scale),        // [N] what one unit of a weight is worth
              (const float*, bias),         // [N]
              (const float*, residual),     // [R, N], added; null: nothing is
              (float*, out),                // [R, N]
              (int64_t, rows), (int64_t, dim_in), (int64_t, dim_out),  // R, K, N
              (int64_t, gelu));                                        // whether outputs pass through it
};

// x / 2 (1 + erf(x / sqrt 2)), within 3e-7 |x|. The error function is z times a quotient of polynomials in
// z^2 of our own fitting (least squares at Chebyshev nodes of [0, 4] in double); beyond it is 1.
NLDF_HD float gelu(float x) {
  const float side = x * 0.70710678f;
  const float z = side > 4.0f ? 4.0f : side < -4.0f ? -4.0f : side, u = z * z;
  float p = 1.91604141e-08f;
  p = p * u - 1.98507173e-06f;
  p = p * u + 0.000155123663f;
  p = p * u + 0.00428362206f;
  p = p * u + 0.0524111347f;
  p = p * u + 0.213778161f;
  p = p * u + 1.12837871f;
  float q = 0.00109509154f;
  q = q * u + 0.0155352603f;
  q = q * u + 0.120729945f;
  q = q * u + 0.52278389f;
  q = q * u + 1.0f;
  return 0.5f * x + 0.5f * x * (z * p / q);
}

void linear_cpu(const LinearArgs& args, const Exec& exec);

}  // namespace nldf
