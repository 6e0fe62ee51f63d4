// A layer of float32 weights over rows that may overlap, as those of a convolution do: a product, a bias, and
// GELU where it is asked for.
//
// A row's sums run in one order, so its outputs depend neither on the rows beside it nor on threads, which
// no library of matrix products promises.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

struct AffineArgs {
  NLDF_FIELDS((const float*, x),        // row r begins at x + r * step
              (const float*, weights),  // [ceil(N / 16), K, 16], zeros behind the last output
              (const float*, bias),     // [N]
              (float*, out),            // [R, N]
              (int64_t, rows), (int64_t, step), (int64_t, dim_in), (int64_t, dim_out),  // R, -, K, N
              (int64_t, gelu));  // whether outputs pass through it
};

void affine_cpu(const AffineArgs& args, const Exec& exec);

}  // namespace nldf
