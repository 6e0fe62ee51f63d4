#include "core/launch.cuh"
#include "ops/landmarks.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr unsigned kAll = 0xffffffffu;
constexpr int kMostBlock = 256;  // points in a block, whose gradients lie in shared memory

__device__ float sum_lanes(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  return value;
}

template <class Args>
__global__ void __launch_bounds__(kThreads) landmarks_factors_kernel(Args args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t l = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; l < args.count; l += step)
    landmark_factor(args, l);
}

// One thread a point and landmark: neighbouring threads write neighbouring columns, and read neighbouring
// factors from the cache.
__global__ void __launch_bounds__(kThreads) landmarks_kernel(LandmarksArgs<float> args) {
  const int64_t total = args.frames * args.per_frame * args.count;
  const int64_t width = args.count * landmark_features(args);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < total; i += step) {
    const int64_t point = i / args.count, l = i - point * args.count, frame = point / args.per_frame;
    LandmarkLanes<float, 1> at;
    at.load(args, frame, l);
    float axis[3], d[3][1], u[3][1], q[1], w[1], z[1];
    landmark_axis(args, frame, axis);
    landmark_distances(at, args.points + 3 * point, d, u, q);
    landmark_weights(at, axis, d, q, w, z);
    write_landmarks<float, 1>(w, z, args.axis != nullptr, args.levels, args.count,
                              args.features + point * width + l);
  }
}

// A warp's share of a block of points for its 32 landmarks, a landmark a lane: sums stay in registers. The
// points' gradients are added up over lanes; a point is always the same warp's.
__device__ void sum_points(const LandmarksBackwardArgs<float>& args, int64_t frame, int64_t begin, int count,
                           int64_t l, float sums[kLandmarkSums][1], float (*v_points)[3]) {
  const int lane = threadIdx.x % kWarp;
  const int64_t width = args.count * landmark_features(args);
  const bool valid = l < args.count;
  LandmarkLanes<float, 1> at;
  at.load(args, frame, valid ? l : 0, valid ? 0 : 1);
  float axis[3];
  landmark_axis(args, frame, axis);
  for (int p = threadIdx.x / kWarp; p < count; p += kWarps) {
    const int64_t point = frame * args.per_frame + begin + p;
    float d[3][1], u[3][1], q[1], w[1], z[1], v_w[1] = {}, v_z[1] = {}, v_d[3][1] = {};
    landmark_distances(at, args.points + 3 * point, d, u, q);
    if (valid && !(q[0] > at.reach[0])) {
      landmark_weights(at, axis, d, q, w, z);
      landmark_slopes<float, 1>(w, z, args.axis != nullptr, args.levels, args.count,
                                args.v_features + point * width + l, v_w, v_z);
      landmark_sums(at, axis, d, u, w, v_w, v_z, sums, v_d);
    }
    if (!args.v_points) continue;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const float sum = sum_lanes(v_d[c][0]);
      if (lane == 0) v_points[p][c] += sum;
    }
  }
}

// One thread block a block of points, which walks the landmarks 32 at a time. Asking for 5 blocks a
// multiprocessor lets ptxas take 96 registers; left alone it spills to stay at 72.
__global__ void __launch_bounds__(kThreads, 5) landmarks_backward_kernel(LandmarksBackwardArgs<float> args) {
  using Point = float[3];
  using Sums = float[kLandmarkSums][kWarp];
  NLDF_SHARED(Point, v_points, kMostBlock);
  NLDF_SHARED(Sums, shared, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  for (int64_t piece = blockIdx.x; piece < args.frames * blocks; piece += gridDim.x) {
    const int64_t frame = piece / blocks, begin = piece % blocks * args.block;
    const int count = static_cast<int>(min(args.per_frame - begin, args.block));
    for (int i = threadIdx.x; i < 3 * count; i += kThreads) v_points[i / 3][i % 3] = 0;
    __syncthreads();  // the zeros are there; whoever writes one has read it for the former piece
    for (int64_t first = 0; first < args.count; first += kWarp) {
      float sums[kLandmarkSums][1] = {};
      sum_points(args, frame, begin, count, first + lane, sums, v_points);
#pragma unroll
      for (int k = 0; k < kLandmarkSums; ++k) shared[warp][k][lane] = sums[k][0];
      __syncthreads();  // every warp's sums are there
      for (int k = warp; k < kLandmarkSums; k += kWarps) {
        float sum = 0;
        for (int other = 0; other < kWarps; ++other) sum += shared[other][k][lane];
        if (first + lane < args.count)
          args.partial[(piece * kLandmarkSums + k) * args.count + first + lane] = sum;
      }
      __syncthreads();  // the next landmarks write `shared` again
    }
    if (args.v_points) {
      for (int i = threadIdx.x; i < 3 * count; i += kThreads)
        args.v_points[3 * (frame * args.per_frame + begin) + i] = v_points[i / 3][i % 3];
    }
  }
}

// One warp a landmark: sums over blocks, then the gradients that are made of them.
__global__ void __launch_bounds__(kThreads) landmarks_finish_kernel(LandmarksBackwardArgs<float> args) {
  const int lane = threadIdx.x % kWarp;
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t l = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; l < args.count;
       l += step) {
    float all[kLandmarkSums] = {};
    for (int64_t frame = 0; frame < args.frames; ++frame) {
      float sums[kLandmarkSums] = {};
      for (int64_t b = lane; b < blocks; b += kWarp) {
        const float* const from = args.partial + (frame * blocks + b) * kLandmarkSums * args.count + l;
#pragma unroll
        for (int k = 0; k < kLandmarkSums; ++k) sums[k] += from[k * args.count];
      }
#pragma unroll
      for (int k = 0; k < kLandmarkSums; ++k) all[k] += sums[k] = sum_lanes(sums[k]);
      if (lane == 0) landmark_place_gradient(args, frame, l, sums);
    }
    if (lane == 0) landmark_shape_gradient(args, l, all);
  }
}
}  // namespace

void landmarks_cuda(const LandmarksArgs<float>& args, const Exec& exec) {
  launch("landmarks_factors", landmarks_factors_kernel<LandmarksArgs<float>>, args, args.count, kThreads,
         kThreads, exec);
  launch("landmarks", landmarks_kernel, args, args.frames * args.per_frame * args.count, kThreads, kThreads,
         exec);
}

void landmarks_backward_cuda(const LandmarksBackwardArgs<float>& args, const Exec& exec) {
  if (args.block > kMostBlock) throw std::invalid_argument("landmarks_backward: a block of too many points");
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  launch("landmarks_factors", landmarks_factors_kernel<LandmarksBackwardArgs<float>>, args, args.count,
         kThreads, kThreads, exec);
  launch("landmarks_backward", landmarks_backward_kernel, args, args.frames * blocks, 1, kThreads, exec);
  launch("landmarks_finish", landmarks_finish_kernel, args, args.count, kWarps, kThreads, exec);
}

}  // namespace nldf
