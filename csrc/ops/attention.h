// Attention of a transformer's block, without gradients: for each head, what rows see of the rows of their
// piece, out = softmax(query key^T / sqrt(D / heads)) value (Vaswani et al. 2017, equation 1).
//
// A head has a multiple of kPanel numbers. A row's sums run in one order, so its outputs depend neither on
// the pieces beside it nor on threads.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

struct AttentionArgs {
  NLDF_FIELDS((const float*, query),  // [N, n, `query_step`], of which the first D numbers count
              (const float*,
               rows),         // [N, L, `step`]: from number `first` on D of the key, and D of the value
              (float*, out),  // [N, n, D]
              (int64_t, pieces), (int64_t, seeing), (int64_t, seen),                       // N, n, L
              (int64_t, query_step), (int64_t, step), (int64_t, first), (int64_t, width),  // the last is D
              (int64_t, heads));
};

void attention_cpu(const AttentionArgs& args, const Exec& exec);

}  // namespace nldf
