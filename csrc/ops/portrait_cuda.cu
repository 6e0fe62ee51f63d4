// Frames on CUDA, 32 pixels a warp from their rays to their bytes; widths 32 and 64. Not yet measured on a
// GPU.
//
// A warp takes a piece of 8 x 4 pixels, so that its lookups lie close together and few warps see
// the head or the torso in a part of their pixels. A network that no pixel of a piece needs is not evaluated.
#include <stdexcept>
#include <string>

#include "ops/planes_mma.cuh"
#include "ops/portrait.h"

namespace nldf {

namespace {

constexpr int kTiles = 2, kRows = 16 * kTiles;  // pixels of a piece
constexpr int kPieceWidth = 8, kPieceHeight = kRows / kPieceWidth;
constexpr int kMostPieces = 1 << 30;  // of all frames of a launch
constexpr int kBlocks = 3;  // of a multiprocessor: as many as registers are enough for without a spill

// A network as the kernel takes it: head, then torso.
struct Part {
  PlanesDevice net;
  PlanesShared at;
  const float* warp_bias;
  const float* bias;
  const uint8_t* cells;
  int resolution;
};
struct Params {
  Part part[2];
  PlanesOwn own;
  const float* pose;
  const float* intrinsics;
  const float* motion;
  const float* background;
  uint8_t* out;
  float half_size;
  bool words;                                // the bytes of eight pixels can be written as words
  int parts, width, height, across, pieces;  // pieces of a row and of a frame
  int all;                                   // pieces of all frames
};

// A pixel's line through a part's planes, and whether the part may show there.
struct Seen {
  float4 line;
  bool needed;
};

__device__ __forceinline__ Seen find_head(const Params& args, int frame, const float* pixel) {
  const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, frame);
  float origin[3], direction[3], start[2], slope[2], unit[2];
  make_ray(camera, pixel, origin, direction);
  const float distance = -origin[2] / direction[2];
  for (int axis = 0; axis < 2; ++axis)
    unit[axis] = (origin[axis] + distance * direction[axis]) / args.half_size * 0.5f + 0.5f;
  const bool inside = unit[0] >= 0.0f && unit[0] < 1.0f && unit[1] >= 0.0f && unit[1] < 1.0f;
  const int32_t cell = portrait_cell(unit[0], unit[1], args.part[0].resolution);
  planes_line(origin, direction, args.part[0].net.box, start, slope);
  return {make_float4(start[0], start[1], slope[0], slope[1]), inside && args.part[0].cells[cell]};
}

// Where a pixel falls on the torso: a line without slope.
__device__ __forceinline__ Seen find_torso(const Params& args, int frame, const float* pixel, float alpha) {
  const float width = static_cast<float>(args.width);
  const float* const box = args.part[1].net.box;
  const float* const m = args.motion + 6 * frame;
  const float x = pixel[0] / width - m[4], y = pixel[1] / width - m[5];
  const float unit_x = (m[0] * x + m[1] * y - box[0]) / (box[2] - box[0]);
  const float unit_y = (m[2] * x + m[3] * y - box[1]) / (box[3] - box[1]);
  const int32_t cell = portrait_cell(unit_x, unit_y, args.part[1].resolution);
  return {make_float4(unit_x, unit_y, 0.0f, 0.0f),
          1.0f - alpha > kPortraitHidden && args.part[1].cells[cell]};
}

// Colour, premultiplied, and opacity of this lane's pixel, from the raw outputs of its row.
__device__ __forceinline__ float4 shade(const PlanesDevice& net, const float* out) {
  float color[3] = {0.5f, 0.5f, 0.5f};  // planes.h adds 1 / (2 M) to each of M segments
  for (int p = 0; p < net.planes; ++p) {
#pragma unroll
    for (int c = 0; c < 3; ++c) color[c] += out[3 * p + c];
  }
  const float opacity = planes_opacity(net.opacity_slope, out[3 * net.planes]);
  return make_float4(color[0] * opacity, color[1] * opacity, color[2] * opacity, opacity);
}

__device__ __forceinline__ void run(const Part& part, int frame, const PlanesPlace& place) {
  const float* const warp_bias = part.warp_bias + frame * part.net.width;
  const float* const bias = part.bias + frame * part.net.width;
  if (part.net.width == 32) return PlanesWarp<32, kTiles>(part.net, place).run(warp_bias, bias);
  PlanesWarp<64, kTiles>(part.net, place).run(warp_bias, bias);
}

// Rounds to the nearest, halves to even, as torch does.
__device__ __forceinline__ uint32_t to_byte(float value) {
  const float scaled = value * 255.0f;
  return static_cast<uint32_t>(rintf(scaled > 0.0f ? (scaled < 255.0f ? scaled : 255.0f) : 0.0f));
}

// Writes the bytes of a piece's pixels in words: six to a row of eight pixels, a lane each.
__device__ __forceinline__ void store_words(const Params& args, uint8_t* out, int x, int y, int lane,
                                            uint32_t bytes) {
  const int row = lane / 6, word = lane % 6, pixel = 4 * word / 3;
  const int from = row * kPieceWidth + pixel;
  const uint64_t low = __shfl_sync(~0u, bytes, from), high = __shfl_sync(~0u, bytes, from + 1);
  if (row >= kPieceHeight || y + row >= args.height) return;
  const uint64_t both = low | high << 24;
  *reinterpret_cast<uint32_t*>(out + 3 * (static_cast<int64_t>(y + row) * args.width + x) + 4 * word) =
      static_cast<uint32_t>(both >> 8 * (4 * word % 3));
}

// Shared: the weights of all parts lie in shared memory.
template <bool Shared>
__global__ void __launch_bounds__(kPlanesThreads, kBlocks)
    portrait_kernel(const __grid_constant__ Params args) {
  NLDF_DYNAMIC_SHARED(shared);
  for (int i = 0; i < args.parts; ++i) planes_load(args.part[i].net, args.part[i].at, shared);
  __syncthreads();
  const int lane = threadIdx.x % 32, step = gridDim.x * kPlanesWarps;
#pragma unroll 1
  for (int all = blockIdx.x * kPlanesWarps + threadIdx.x / 32; all < args.all; all += step) {
    const int frame = all / args.pieces, piece = all % args.pieces;
    const int x = piece % args.across * kPieceWidth + lane % kPieceWidth;
    const int y = piece / args.across * kPieceHeight + lane / kPieceWidth;
    const bool mine = x < args.width && y < args.height;
    const float pixel[2] = {static_cast<float>(x) + 0.5f, static_cast<float>(y) + 0.5f};
    float4 color = make_float4(0, 0, 0, 0);  // of head and torso together
#pragma unroll 1
    for (int i = 0; i < args.parts; ++i) {
      const Part& part = args.part[i];
      const PlanesPlace place = planes_place<Shared>(part.net, part.at, args.own, kRows, shared);
      const Seen seen = i ? find_torso(args, frame, pixel, color.w) : find_head(args, frame, pixel);
      const bool needed = mine && seen.needed;
      if (!__any_sync(~0u, needed)) continue;
      place.lines[lane] = seen.line;
      __syncwarp();
      run(part, frame, place);
      __syncwarp();
      if (needed) {
        const float4 more = shade(part.net, place.results + lane * place.stride);
        const float left = 1.0f - color.w;
        color.x += left * more.x, color.y += left * more.y, color.z += left * more.z;
        color.w += left * more.w;
      }
    }
    // Worked out again: registers are short within the networks.
    const int again = ptx::opaque(all);
    const int first_x = again % args.pieces % args.across * kPieceWidth;
    const int first_y = again % args.pieces / args.across * kPieceHeight;
    const int64_t before = 3 * static_cast<int64_t>(again / args.pieces) * args.width * args.height;
    uint8_t* const out = args.out + before;  // of this frame
    const int column = first_x + lane % kPieceWidth, row = first_y + lane / kPieceWidth;
    const int64_t at = 3 * (static_cast<int64_t>(row) * args.width + column);
    uint32_t bytes = 0;  // red, green and blue, red lowest
    if (mine) {
      const float left = 1.0f - color.w;
      bytes = to_byte(color.x + left * args.background[at]) |
              to_byte(color.y + left * args.background[at + 1]) << 8 |
              to_byte(color.z + left * args.background[at + 2]) << 16;
    }
    if (args.words) {
      store_words(args, out, first_x, first_y, lane, bytes);
    } else if (mine) {
      for (int c = 0; c < 3; ++c) out[at + c] = static_cast<uint8_t>(bytes >> 8 * c);
    }
  }
}

Part part_of(const PortraitPartOf<Half>& from) {
  Part part{planes_device(from.network),          {}, from.warp_bias, from.bias, from.map.cells,
            static_cast<int>(from.map.resolution)};
  if (part.net.width != 32 && part.net.width != 64) {
    throw std::invalid_argument("portrait: width must be 32 or 64, got " + std::to_string(part.net.width));
  }
  return part;
}

}  // namespace

void portrait_cuda(const PortraitHalfArgs& args, const Exec& exec) {
  if (args.frames * args.width * args.height == 0) return;
  Params params{};
  SharedPlan plan;
  params.parts = args.has_torso ? 2 : 1;
  params.part[0] = part_of(args.head);
  if (args.has_torso) params.part[1] = part_of(args.torso);
  size_t weights = 0;
  for (int i = 0; i < params.parts; ++i) weights += planes_weight_bytes(params.part[i].net);
  const bool shared = weights <= kPlanesSharedWeights;
  for (int i = 0; i < params.parts; ++i) {
    params.part[i].at = planes_shared(params.part[i].net, shared, plan);
  }
  params.pose = args.pose, params.intrinsics = args.intrinsics, params.motion = args.motion;
  params.background = args.background, params.out = args.out, params.half_size = args.half_size;
  params.width = static_cast<int>(args.width), params.height = static_cast<int>(args.height);
  params.words = args.width % kPieceWidth == 0 && reinterpret_cast<uintptr_t>(args.out) % 4 == 0;
  const int stride =
      std::max(params.part[0].net.stride(), params.parts > 1 ? params.part[1].net.stride() : 0);
  params.own = planes_own(kRows, stride, plan);
  params.across = (params.width + kPieceWidth - 1) / kPieceWidth;
  params.pieces = params.across * ((params.height + kPieceHeight - 1) / kPieceHeight);
  const int64_t all = args.frames * params.pieces;
  if (all > kMostPieces) {
    throw std::invalid_argument("portrait: expected at most " + std::to_string(kMostPieces / params.pieces) +
                                " frames of this size, got " + std::to_string(args.frames));
  }
  params.all = static_cast<int>(all);
  const int most = kBlocks * multiprocessors(exec);
  const int blocks = std::min((params.all + kPlanesWarps - 1) / kPlanesWarps, most);
  const auto kernel = shared ? portrait_kernel<true> : portrait_kernel<false>;
  launch_shape("portrait", kernel, {dim3(static_cast<unsigned>(blocks)), kPlanesThreads, plan.bytes}, exec,
               params);
}

}  // namespace nldf
