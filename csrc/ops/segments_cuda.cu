#include "core/launch.cuh"
#include "ops/segments.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
// Lanes that share a ray. 16 divides the samples of a segment for 64, 128 and 192 samples in 4 segments, so
// no lane idles there.
constexpr int kLanes = 16;
constexpr int kRaysPerBlock = kThreads / kLanes;
constexpr unsigned kAll = 0xffffffffu;

// Product (sum) over this and all lower (higher) lanes of the ray.
__device__ float product_below(float value, int lane) {
#pragma unroll
  for (int offset = 1; offset < kLanes; offset *= 2) {
    const float other = __shfl_up_sync(kAll, value, offset, kLanes);
    if (lane >= offset) value *= other;
  }
  return value;
}
__device__ float sum_above(float value, int lane) {
#pragma unroll
  for (int offset = 1; offset < kLanes; offset *= 2) {
    const float other = __shfl_down_sync(kAll, value, offset, kLanes);
    if (lane + offset < kLanes) value += other;
  }
  return value;
}
__device__ float sum_lanes(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset; offset /= 2) value += __shfl_xor_sync(kAll, value, offset, kLanes);
  return value;
}

// Every thread of a block walks the same loops, whether its ray exists or not, because shuffles need the
// whole warp; `valid` guards memory.
__global__ void __launch_bounds__(kThreads) segments_kernel(SegmentsArgs<float> args) {
  const int lane = threadIdx.x % kLanes;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRaysPerBlock;
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * kRaysPerBlock; base < args.rays; base += step) {
    const int64_t ray = base + threadIdx.x / kLanes;
    const bool valid = ray < args.rays;
    float transmittance = 1, depth = 0;
    for (int64_t segment = 0; segment < args.segments; ++segment) {
      float red = 0, green = 0, blue = 0;
      const int64_t end = (segment + 1) * per_segment;
      for (int64_t begin = segment * per_segment; begin < end; begin += kLanes) {
        const bool mine = valid && begin + lane < end;
        const int64_t i = ray * args.samples + begin + lane;
        const float pass = mine ? sample_pass(args.sigma[i], args.delta[i]) : 1.0f;
        const float product = product_below(pass, lane);
        const float before = __shfl_up_sync(kAll, product, 1, kLanes);
        const float weight = transmittance * (lane ? before : 1.0f) * (1.0f - pass);
        if (mine) {
          red += weight * args.rgb[3 * i];
          green += weight * args.rgb[3 * i + 1];
          blue += weight * args.rgb[3 * i + 2];
          if (args.weights) args.weights[i] = weight;
          if (args.distances) depth += weight * args.distances[i];
        }
        transmittance *= __shfl_sync(kAll, product, kLanes - 1, kLanes);
      }
      red = sum_lanes(red), green = sum_lanes(green), blue = sum_lanes(blue);
      if (valid && lane < 3) {
        float color = lane == 0 ? red : (lane == 1 ? green : blue);
        if (args.background && segment == args.segments - 1) {
          color += transmittance * args.background[3 * ray + lane];
        }
        args.colors[(ray * args.segments + segment) * 3 + lane] = color;
      }
    }
    depth = sum_lanes(depth);
    if (valid && lane == 0) {
      args.opacity[ray] = 1.0f - transmittance;
      if (args.depth) args.depth[ray] = depth;
    }
  }
}

// Asking for 8 blocks a multiprocessor lets ptxas take 64 registers; left alone it spills to stay at 40.
__global__ void __launch_bounds__(kThreads, 8) segments_backward_kernel(SegmentsBackwardArgs<float> args) {
  const int lane = threadIdx.x % kLanes;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRaysPerBlock;
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * kRaysPerBlock; base < args.rays; base += step) {
    const int64_t ray = base + threadIdx.x / kLanes;
    const bool valid = ray < args.rays;
    const int64_t first = ray * args.samples;
    // Forward: v_sigma holds T_{k+1} until the way back has used it.
    float last = 1;
    for (int64_t begin = 0; begin < args.samples; begin += kLanes) {
      const int64_t k = begin + lane;
      const bool mine = valid && k < args.samples;
      const float pass = mine ? sample_pass(args.sigma[first + k], args.delta[first + k]) : 1.0f;
      const float next = last * product_below(pass, lane);
      if (mine) args.v_sigma[first + k] = next;
      last = __shfl_sync(kAll, next, kLanes - 1, kLanes);
    }
    __syncwarp();  // the way back reads what neighbouring lanes wrote
    const float v_opacity = valid ? ray_v_opacity(args, ray) : 0.0f;
    const float v_expected = valid ? ray_v_depth(args, ray) : 0.0f;
    if (args.v_background && valid && lane < 3) background_gradient(args, ray, last, lane);
    float behind = 0;
    for (int64_t end = args.samples; end > 0; end -= kLanes) {
      const int64_t k = end - kLanes + lane;  // the last piece may reach below 0
      const bool mine = valid && k >= 0;
      float next = 1, before = 1, g = 0;
      float v_color[3] = {};
      if (mine) {
        const float* v = args.v_colors + (ray * args.segments + k / per_segment) * 3;
        next = args.v_sigma[first + k];
        if (k) before = args.v_sigma[first + k - 1];
        for (int c = 0; c < 3; ++c) {
          v_color[c] = v[c];
          g += v_color[c] * args.rgb[3 * (first + k) + c];
        }
        if (args.distances) g += v_expected * args.distances[first + k];
      }
      const float weight = before - next;
      const float sum = sum_above(weight * g, lane);
      const float above = __shfl_down_sync(kAll, sum, 1, kLanes);
      const float v_depth =
          depth_gradient(next, g, behind + (lane + 1 < kLanes ? above : 0.0f), v_opacity, last);
      behind += __shfl_sync(kAll, sum, 0, kLanes);
      __syncwarp();  // every lane has read its neighbour's transmittance
      if (mine) {
        for (int c = 0; c < 3; ++c) args.v_rgb[3 * (first + k) + c] = weight * v_color[c];
        if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
        if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
        args.v_sigma[first + k] = args.delta[first + k] * v_depth;
      }
    }
  }
}
}  // namespace

void segments_cuda(const SegmentsArgs<float>& args, const Exec& exec) {
  launch("segments", segments_kernel, args, args.rays, kRaysPerBlock, kThreads, exec);
}

void segments_backward_cuda(const SegmentsBackwardArgs<float>& args, const Exec& exec) {
  launch("segments_backward", segments_backward_kernel, args, args.rays, kRaysPerBlock, kThreads, exec);
}

}  // namespace nldf
