// Small kernels with the structure of the fused network's: what the runner has to be able to emulate.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

struct __half;

namespace nldf {

// y = relu(x + relu(x w1^T + b1) w2^T + b2); halves, sums in float; weights [out, in].
struct BlockArgs {
  NLDF_FIELDS((const __half*, x),   // [R, 64]
              (const __half*, w1),  // [64, 64]
              (const float*, b1),   // [64]
              (const __half*, w2),  // [64, 64]
              (const float*, b2),   // [64]
              (__half*, y),         // [R, 64]
              (int64_t, rows));     // R
};

// y = relu(x w^T + b); `packed` holds w in chunks of 64 inputs: 128 rows of 128 bytes, 128-byte swizzle.
struct RingArgs {
  NLDF_FIELDS((const __half*, x),       // [R, 256]
              (const __half*, packed),  // [4, 128, 64]
              (const float*, b),        // [128]
              (float*, y),              // [R, 128]
              (int64_t, rows));         // R
};

void mma_block_cuda(const BlockArgs& args, const Exec& exec);
void wgmma_ring_cuda(const RingArgs& args, const Exec& exec);

}  // namespace nldf
