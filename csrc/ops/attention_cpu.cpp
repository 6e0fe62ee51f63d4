// Heads of pieces to threads. The arithmetic is in rows_lanes.h.
#include "core/scratch.h"
#include "ops/rows_kernels.h"

namespace nldf {

void attention_cpu(const AttentionArgs& args, const Exec& exec) {
  const RowsKernels& isa = rows_kernels();
  const int64_t numbers = attention_scratch(args, isa.group);
  parallel_for(args.pieces * args.heads, 1, exec.threads, [&](int64_t task, int64_t) {
    isa.attention(args, task / args.heads, task % args.heads, scratch<float>(numbers));
  });
}

}  // namespace nldf
