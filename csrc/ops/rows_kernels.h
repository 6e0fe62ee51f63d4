// What an instruction set offers to the operations on rows of float32: affine and attention.
#pragma once

#include "core/panels.h"
#include "ops/affine.h"
#include "ops/attention.h"

namespace nldf {

struct RowsKernels {
  int64_t group;  // rows that are treated together
  // Outputs [out_begin, out_end) of rows [begin, end); panels of 16 outputs, the last of which may be beyond
  // the last one.
  void (*affine)(const AffineArgs& args, int64_t begin, int64_t end, int64_t out_begin, int64_t out_end);
  // One head of one piece; `scratch` holds attention_scratch() numbers.
  void (*attention)(const AttentionArgs& args, int64_t piece, int64_t head, float* scratch);
};

// A head's keys in panels, and the weights of a group of rows.
inline int64_t attention_scratch(const AttentionArgs& args, int64_t group) {
  return panels(args.seen) * kPanel * (args.width / args.heads + group);
}

extern const RowsKernels kRowsPortable;
extern const RowsKernels kRowsAvx2;
extern const RowsKernels kRowsAvx512;

// Those of cpu_isa().
const RowsKernels& rows_kernels();

}  // namespace nldf
