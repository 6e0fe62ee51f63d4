// The 8-bit linear layer on the CPU: which instruction set, pieces and threads. The arithmetic is in
// linear_lanes.h and the instruction sets' own files.
#include <cstring>

#include "core/isa.h"
#include "core/scratch.h"
#include "ops/linear_kernels.h"

namespace nldf {

namespace {

constexpr int64_t kPiece =
    8;  // times 32 outputs: their weights fit the second cache, and rows of them lie close

const LinearKernels& linear_kernels() {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
#ifdef NLDF_AMX
  if (isa == Isa::avx512 && cpu_has_amx()) return kLinearAmx;
#endif
  if (isa == Isa::avx512) return kLinearAvx512;
  if (isa == Isa::avx2) return kLinearAvx2;
#endif
  return kLinearPortable;
}

}  // namespace

void linear_cpu(const LinearArgs& args, const Exec& exec) {
  if (!args.rows) return;
  const LinearKernels& isa = linear_kernels();
  const int64_t rows = (args.rows + isa.group - 1) / isa.group * isa.group;
  const int64_t size = rows * args.dim_in * isa.bytes, wanted = size + 64 * ((4 * rows + 63) / 64);
  char* const memory = scratch<char>(wanted);
  float* const scales = reinterpret_cast<float*>(memory + size);
  // Rows that only fill up the last group are multiplied with the others, and dropped.
  const int64_t last = (rows - isa.group) * args.dim_in * isa.bytes;
  if (rows != args.rows) std::memset(memory + last, 0, static_cast<size_t>(size - last));
  parallel_for(args.rows, 16, exec.threads, [&](int64_t begin, int64_t end) {
    float* const normed = scratch<float>(args.dim_in);
    for (int64_t row = begin; row < end; ++row) isa.quantise(args, row, memory, scales, normed);
  });
  parallel_for(args.dim_out / kLinearOutputs, kPiece, exec.threads, [&](int64_t begin, int64_t end) {
    isa.multiply(args, memory, scales, begin * kLinearOutputs, end * kLinearOutputs);
  });
}

}  // namespace nldf
