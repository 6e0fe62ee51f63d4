// Micro-kernels, one for each group of ptx.cuh's functions: 32-bit words in, words out. The list says how
// each is launched and how many words it writes, for the runner and for golden.cu alike.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr int kMicroWords = 4096;  // of input

struct MicroArgs {
  NLDF_FIELDS((const uint32_t*, in), (uint32_t*, out));
};

// name, blocks, threads, bytes of shared memory, blocks of a cluster, words of output
#define NLDF_MICRO(X)                      \
  X(shuffles, 1, 32, 0, 1, 192)            \
  X(votes, 1, 64, 0, 1, 64)                \
  X(halves, 1, 32, 0, 1, 128)              \
  X(ldmatrix, 1, 32, 1024, 1, 320)         \
  X(mma, 1, 32, 0, 1, 128)                 \
  X(copies, 1, 64, 2048, 1, 320)           \
  X(named_barriers, 1, 96, 512, 1, 64)     \
  X(atomics, 3, 64, 0, 1, 4)               \
  X(bulk, 1, 64, 4096, 1, 1024)            \
  X(cluster, 2, 64, 4096, 2, 2048)         \
  X(wgmma_rs_8, 1, 128, 4096, 1, 512)      \
  X(wgmma_rs_64, 1, 128, 8192, 1, 4096)    \
  X(wgmma_rs_128, 1, 128, 16384, 1, 8192)  \
  X(wgmma_rs_256, 1, 128, 32768, 1, 16384) \
  X(wgmma_ss_16, 1, 128, 12288, 1, 1024)   \
  X(wgmma_ss_64, 1, 128, 16384, 1, 4096)

#define NLDF_MICRO_DECLARE(name, ...) void micro_##name##_cuda(const MicroArgs& args, const Exec& exec);
NLDF_MICRO(NLDF_MICRO_DECLARE)
#undef NLDF_MICRO_DECLARE

}  // namespace nldf
