// Rows and outputs of a float32 layer to threads. The arithmetic is in rows_lanes.h.
#include "core/panels.h"
#include "ops/rows_kernels.h"

namespace nldf {

void affine_cpu(const AffineArgs& args, const Exec& exec) {
  // Blocks are large enough that their weights are used often, and small enough that a few rows keep all
  // threads busy.
  constexpr int64_t kRows = 64, kOutputs = 96;
  const RowsKernels& isa = rows_kernels();
  const int64_t outputs = panels(args.dim_out) * kPanel, across = (outputs + kOutputs - 1) / kOutputs;
  const int64_t blocks = (args.rows + kRows - 1) / kRows * across;
  parallel_for(blocks, 1, exec.threads, [&](int64_t block, int64_t) {
    const int64_t row = block / across * kRows, output = block % across * kOutputs;
    isa.affine(args, row, std::min(row + kRows, args.rows), output, std::min(output + kOutputs, outputs));
  });
}

}  // namespace nldf
