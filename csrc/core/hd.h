// What host and device code share: function qualifiers, where a kernel runs, and the host's parallel loop.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef __CUDACC__
#define NLDF_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
// Always: a copy that one instruction set's file compiled must never be linked into another's.
#define NLDF_HD inline __attribute__((always_inline))
#else
#define NLDF_HD inline
#endif

// Before a loop whose iterations are independent: asks the host compiler for vector instructions.
#if defined(_OPENMP) && !defined(__CUDA_ARCH__)
#define NLDF_LANES _Pragma("omp simd")
#else
#define NLDF_LANES
#endif

namespace nldf {

// Where a launcher runs its kernel. The CPU reads `threads`; CUDA reads `device` and `stream`.
struct Exec {
  int threads;   // at least 1
  int device;    // CUDA ordinal
  void* stream;  // cudaStream_t; null is the default stream
};

// Calls body(begin, end) on pieces of [0, count) of at most `grain` elements.
// The number of threads comes from the caller (torch.get_num_threads()), so that it holds even where two
// OpenMP runtimes are loaded. Pieces are handed out dynamically: a thread that lost its core delays only
// the piece it holds.
template <class Body>
void parallel_for(int64_t count, int64_t grain, int threads, const Body& body) {
  const int64_t pieces = (count + grain - 1) / grain;
  [[maybe_unused]] const int team = static_cast<int>(std::min<int64_t>(std::max(threads, 1), pieces));
#pragma omp parallel for schedule(dynamic) num_threads(team) if (team > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * grain;
    body(begin, std::min(count, begin + grain));
  }
}

}  // namespace nldf
