#include "core/launch.cuh"
#include "cuda/ptx.cuh"
#include "ops/samples.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAll = 0xffffffffu;

__device__ float sum_below(float value, int lane) {
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const float other = __shfl_up_sync(kAll, value, offset);
    if (lane >= offset) value += other;
  }
  return value;
}

// How many of `count` sorted values lie before `value`; with `Equal` also those equal to it.
template <bool Equal>
__device__ int rank_of(const float* sorted, int count, float value) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    const bool before = Equal ? sorted[middle] <= value : sorted[middle] < value;
    if (before) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// One warp a ray. Everything it reads more than once lies in shared memory: the coarse distances, the sums
// of the masses up to and with each bin, and the draws. Where each value goes in the merged row is its index
// among its own plus its rank among the others: coarse ones stand before draws equal to them.
// Asking for 8 blocks a multiprocessor holds it to 64 registers; left alone it takes 70 on sm_86.
__global__ void __launch_bounds__(kThreads, 8) samples_kernel(SamplesArgs<float> args) {
  using Row = float[kMostSharedSamples];
  NLDF_SHARED(Row, shared, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int samples = static_cast<int>(args.samples), count = static_cast<int>(args.count);
  const int bins = samples - 2;
  float* t = shared[warp];
  float* sums = t + samples;
  float* draws = sums + samples;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * kWarps; base < args.rays; base += step) {
    const int64_t ray = base + warp;
    if (ray < args.rays) {  // the same for a whole warp
      for (int i = lane; i < samples; i += kWarp) t[i] = args.distances[ray * samples + i];
      float total = 0;
      for (int first = 0; first < bins; first += kWarp) {
        const int j = first + lane;
        const float mass = j < bins ? sample_mass(args.weights[ray * samples + j + 1]) : 0.0f;
        const float sum = total + sum_below(mass, lane);
        if (j < bins) sums[j] = sum;
        total = __shfl_sync(kAll, sum, kWarp - 1);
      }
      __syncwarp();
      for (int k = lane; k < count; k += kWarp) {
        const float target = sample_target(args, ray, k, total);
        const int bin = rank_of<true>(sums, bins - 1, target);
        const float lower = bin ? sums[bin - 1] : 0.0f;
        // The mass itself: the difference of two sums has lost its digits.
        const float mass = sample_mass(args.weights[ray * samples + bin + 1]);
        draws[k] = place_sample(target, lower, mass, sample_middle(t, bin), sample_middle(t, bin + 1));
      }
      __syncwarp();
      float* out = args.merged + ray * (samples + count);
      for (int i = lane; i < samples; i += kWarp) out[i + rank_of<false>(draws, count, t[i])] = t[i];
      for (int k = lane; k < count; k += kWarp) out[k + rank_of<true>(t, samples, draws[k])] = draws[k];
      __syncwarp();  // the next ray overwrites what other lanes may still read
    }
  }
}
}  // namespace

void samples_cuda(const SamplesArgs<float>& args, const Exec& exec) {
  if (2 * args.samples + args.count > kMostSharedSamples) {
    throw std::runtime_error("samples: more than " + std::to_string(kMostSharedSamples) +
                             " values a ray: 2 S + N = " + std::to_string(2 * args.samples + args.count));
  }
  launch("samples", samples_kernel, args, args.rays, kWarps, kThreads, exec);
}

}  // namespace nldf
