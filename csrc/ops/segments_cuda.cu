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
// Features of other numbers of channels than a colour's.
constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr int kSums = 2;       // channels that a lane adds up
constexpr int kRowsAhead = 8;  // samples whose features are under way, of kSums channels a lane
constexpr int kAhead = 8;      // channels of a sample that are under way in each lane, on the way back

// Product (sum) over this and all lower (higher) of the lanes that share a ray.
template <int Lanes>
__device__ float product_below(float value, int lane) {
#pragma unroll
  for (int offset = 1; offset < Lanes; offset *= 2) {
    const float other = __shfl_up_sync(kAll, value, offset, Lanes);
    if (lane >= offset) value *= other;
  }
  return value;
}
template <int Lanes>
__device__ float sum_above(float value, int lane) {
#pragma unroll
  for (int offset = 1; offset < Lanes; offset *= 2) {
    const float other = __shfl_down_sync(kAll, value, offset, Lanes);
    if (lane + offset < Lanes) value += other;
  }
  return value;
}
template <int Lanes>
__device__ float sum_lanes(float value) {
#pragma unroll
  for (int offset = Lanes / 2; offset; offset /= 2) value += __shfl_xor_sync(kAll, value, offset, Lanes);
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
        const float product = product_below<kLanes>(pass, lane);
        const float before = __shfl_up_sync(kAll, product, 1, kLanes);
        const float weight = transmittance * (lane ? before : 1.0f) * (1.0f - pass);
        if (mine) {
          red += weight * args.features[3 * i];
          green += weight * args.features[3 * i + 1];
          blue += weight * args.features[3 * i + 2];
          if (args.weights) args.weights[i] = weight;
          if (args.distances) depth += weight * args.distances[i];
        }
        transmittance *= __shfl_sync(kAll, product, kLanes - 1, kLanes);
      }
      red = sum_lanes<kLanes>(red), green = sum_lanes<kLanes>(green), blue = sum_lanes<kLanes>(blue);
      if (valid && lane < 3) {
        float color = lane == 0 ? red : (lane == 1 ? green : blue);
        if (args.background && segment == args.segments - 1) {
          color += transmittance * args.background[3 * ray + lane];
        }
        args.composited[(ray * args.segments + segment) * 3 + lane] = color;
      }
    }
    depth = sum_lanes<kLanes>(depth);
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
      const float next = last * product_below<kLanes>(pass, lane);
      if (mine) args.v_sigma[first + k] = next;
      last = __shfl_sync(kAll, next, kLanes - 1, kLanes);
    }
    __syncwarp();  // the way back reads what neighbouring lanes wrote
    const float v_opacity = valid ? ray_v_opacity(args, ray, kColorChannels) : 0.0f;
    const float v_expected = valid ? ray_v_depth(args, ray) : 0.0f;
    if (args.v_background && valid && lane < 3) background_gradient(args, ray, last, lane);
    float behind = 0;
    for (int64_t end = args.samples; end > 0; end -= kLanes) {
      const int64_t k = end - kLanes + lane;  // the last piece may reach below 0
      const bool mine = valid && k >= 0;
      float next = 1, before = 1, g = 0;
      float v_color[3] = {};
      if (mine) {
        const float* v = args.v_composited + (ray * args.segments + k / per_segment) * 3;
        next = args.v_sigma[first + k];
        if (k) before = args.v_sigma[first + k - 1];
        for (int c = 0; c < 3; ++c) {
          v_color[c] = v[c];
          g += v_color[c] * args.features[3 * (first + k) + c];
        }
        if (args.distances) g += v_expected * args.distances[first + k];
      }
      const float weight = before - next;
      const float sum = sum_above<kLanes>(weight * g, lane);
      const float above = __shfl_down_sync(kAll, sum, 1, kLanes);
      const float v_depth =
          depth_gradient(next, g, behind + (lane + 1 < kLanes ? above : 0.0f), v_opacity, last);
      behind += __shfl_sync(kAll, sum, 0, kLanes);
      __syncwarp();  // every lane has read its neighbour's transmittance
      if (mine) {
        for (int c = 0; c < 3; ++c) args.v_features[3 * (first + k) + c] = weight * v_color[c];
        if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
        if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
        args.v_sigma[first + k] = args.delta[first + k] * v_depth;
      }
    }
  }
}

NLDF_HD int64_t pieces_of(int64_t channels) {
  constexpr int64_t kPiece = kSums * kWarp;
  return channels > kPiece ? (channels + kPiece - 1) / kPiece : 1;
}

// A warp for a ray and a piece of its channels, because a feature map has few rays and many channels. Every
// piece takes the ray's weights anew: one exponential beside 64 features of its sample. The 8 blocks are for
// ptxas, as above.
__global__ void __launch_bounds__(kThreads, 8) segments_rows_kernel(SegmentsArgs<float> args) {
  const int lane = threadIdx.x % kWarp;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const int64_t pieces = pieces_of(args.channels);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
       item < args.rays * pieces; item += step) {
    const int64_t ray = item / pieces, first = ray * args.samples, piece = item - ray * pieces;
    const int64_t c = piece * kSums * kWarp + lane;
    float transmittance = 1, depth = 0;
    for (int64_t segment = 0; segment < args.segments; ++segment) {
      float sums[kSums] = {};
      const int64_t end = (segment + 1) * per_segment;
      for (int64_t begin = segment * per_segment; begin < end; begin += kWarp) {
        const bool mine = begin + lane < end;
        const int64_t i = first + begin + lane;
        const float pass = mine ? sample_pass(args.sigma[i], args.delta[i]) : 1.0f;
        const float product = product_below<kWarp>(pass, lane);
        const float before = __shfl_up_sync(kAll, product, 1, kWarp);
        const float weight = transmittance * (lane ? before : 1.0f) * (1.0f - pass);
        if (mine && piece == 0) {
          if (args.weights) args.weights[i] = weight;
          if (args.distances) depth += weight * args.distances[i];
        }
        transmittance *= __shfl_sync(kAll, product, kWarp - 1, kWarp);
        const int count = static_cast<int>(end - begin < kWarp ? end - begin : kWarp);
        const float* row = args.features + (first + begin) * args.channels + c;
#pragma unroll kRowsAhead
        for (int k = 0; k < count; ++k, row += args.channels) {
          const float shared = __shfl_sync(kAll, weight, k, kWarp);
#pragma unroll
          for (int v = 0; v < kSums; ++v)
            if (c + v * kWarp < args.channels) sums[v] += shared * row[v * kWarp];
        }
      }
#pragma unroll
      for (int v = 0; v < kSums; ++v) {
        const int64_t channel = c + v * kWarp;
        if (channel >= args.channels) continue;
        if (args.background && segment == args.segments - 1)
          sums[v] += transmittance * args.background[ray * args.channels + channel];
        args.composited[(ray * args.segments + segment) * args.channels + channel] = sums[v];
      }
    }
    if (piece) continue;
    depth = sum_lanes<kWarp>(depth);
    if (lane == 0) {
      args.opacity[ray] = 1.0f - transmittance;
      if (args.depth) args.depth[ray] = depth;
    }
  }
}

// ray_v_opacity, by all lanes of a warp.
__device__ float warp_v_opacity(const SegmentsBackwardArgs<float>& args, int64_t ray, int lane) {
  float hidden = 0;
  if (args.background) {
    const float* v = segment_gradient(args, ray, args.segments - 1);
    for (int64_t c = lane; c < args.channels; c += kWarp)
      hidden += v[c] * args.background[ray * args.channels + c];
  }
  return args.v_opacity[ray] - sum_lanes<kWarp>(hidden);
}

// A sample's v_features, by a warp; the product of its features with the gradient `v` of what sums them.
__device__ float row_backward(const SegmentsBackwardArgs<float>& args, const float* v, int64_t sample,
                              float weight, int lane) {
  const int64_t row = sample * args.channels;
  float product = 0;
  for (int64_t c = lane; c < args.channels; c += kAhead * kWarp) {
    float features[kAhead], gradients[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const bool within = c + i * kWarp < args.channels;
      features[i] = within ? args.features[row + c + i * kWarp] : 0.0f;
      gradients[i] = within ? v[c + i * kWarp] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      product += gradients[i] * features[i];
      if (c + i * kWarp < args.channels) args.v_features[row + c + i * kWarp] = weight * gradients[i];
    }
  }
  return sum_lanes<kWarp>(product);
}

// T_{k+1} of a ray into v_sigma, by a warp.
__device__ void keep_transmittances(const SegmentsBackwardArgs<float>& args, int64_t first, int lane) {
  float last = 1;
  for (int64_t begin = 0; begin < args.samples; begin += kWarp) {
    const int64_t k = begin + lane;
    const bool mine = k < args.samples;
    const float pass = mine ? sample_pass(args.sigma[first + k], args.delta[first + k]) : 1.0f;
    const float next = last * product_below<kWarp>(pass, lane);
    if (mine) args.v_sigma[first + k] = next;
    last = __shfl_sync(kAll, next, kWarp - 1, kWarp);
  }
}

// A block for a ray: its warps share the rows of each piece of samples, and the first one adds up behind
// them.
__global__ void __launch_bounds__(kThreads) segments_rows_backward_kernel(SegmentsBackwardArgs<float> args) {
  NLDF_SHARED(float, shown, 2 * kWarp);  // g_k of a piece; by turns, so that a barrier a piece is enough
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  for (int64_t ray = blockIdx.x; ray < args.rays; ray += gridDim.x) {
    const int64_t first = ray * args.samples;
    // Forward: v_sigma holds T_{k+1} until the way back has used it.
    if (warp == 0) keep_transmittances(args, first, lane);
    __syncthreads();  // transmittances are there, and the last ray's g_k were read
    const float last = args.samples ? args.v_sigma[first + args.samples - 1] : 1.0f;
    const float v_opacity = warp_v_opacity(args, ray, lane), v_expected = ray_v_depth(args, ray);
    if (args.v_background)
      for (int64_t c = threadIdx.x; c < args.channels; c += kThreads) background_gradient(args, ray, last, c);
    float behind = 0;
    float* g_of = shown;
    for (int64_t end = args.samples; end > 0; end -= kWarp) {
      const int64_t begin = end - kWarp, k = begin + lane;  // the last piece may reach below 0
      const bool mine = k >= 0;
      const float next = mine ? args.v_sigma[first + k] : 1.0f;
      const float weight = (k > 0 ? args.v_sigma[first + k - 1] : 1.0f) - next;
      for (int i = warp; i < kWarp; i += kWarps) {
        const float shared = __shfl_sync(kAll, weight, i, kWarp);
        if (begin + i < 0) continue;
        const int64_t segment = args.segments == 1 ? 0 : (begin + i) / per_segment;
        const float product =
            row_backward(args, segment_gradient(args, ray, segment), first + begin + i, shared, lane);
        if (lane == 0) g_of[i] = product;
      }
      __syncthreads();  // all rows are done, and every warp has read this piece's transmittances
      if (warp == 0) {
        float g = mine ? g_of[lane] : 0.0f;
        if (mine && args.distances) g += v_expected * args.distances[first + k];
        const float sum = sum_above<kWarp>(weight * g, lane);
        const float above = __shfl_down_sync(kAll, sum, 1, kWarp);
        const float v_depth =
            depth_gradient(next, g, behind + (lane + 1 < kWarp ? above : 0.0f), v_opacity, last);
        behind += __shfl_sync(kAll, sum, 0, kWarp);
        if (mine) {
          if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
          if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
          args.v_sigma[first + k] = args.delta[first + k] * v_depth;
        }
      }
      g_of = g_of == shown ? shown + kWarp : shown;
    }
  }
}
}  // namespace

void segments_cuda(const SegmentsArgs<float>& args, const Exec& exec) {
  if (args.channels == kColorChannels)
    return launch("segments", segments_kernel, args, args.rays, kRaysPerBlock, kThreads, exec);
  launch("segments_rows", segments_rows_kernel, args, args.rays * pieces_of(args.channels), kWarps, kThreads,
         exec);
}

void segments_backward_cuda(const SegmentsBackwardArgs<float>& args, const Exec& exec) {
  if (args.channels == kColorChannels)
    return launch("segments_backward", segments_backward_kernel, args, args.rays, kRaysPerBlock, kThreads,
                  exec);
  launch("segments_rows_backward", segments_rows_backward_kernel, args, args.rays, 1, kThreads, exec);
}

}  // namespace nldf
