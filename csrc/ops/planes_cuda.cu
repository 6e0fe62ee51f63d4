// The light field over planes on CUDA, 16 or 32 rays a warp. Not yet measured on a GPU.
#include <stdexcept>
#include <string>

#include "ops/planes_mma.cuh"

namespace nldf {

namespace {

struct PlanesParams {
  PlanesDevice net;
  PlanesShared at;
  PlanesOwn own;
  const float* origins;
  const float* directions;
  const float* warp_bias;
  const float* bias;
  float* segments;
  float* opacity;
  int64_t frames, rays, tiles;  // tiles of a frame
};

// Two tiles of 16 rays share every weight that is read; at width 128 there are registers for one.
template <int Width>
constexpr int kTiles = Width <= 64 ? 2 : 1;

// Blocks of a multiprocessor: as many as registers are enough for without a spill.
template <int Width>
constexpr int kBlocks = Width == 32 ? 4 : (Width == 64 ? 3 : 2);

// Shared: the weights lie in shared memory.
template <int Width, bool Shared>
__global__ void __launch_bounds__(kPlanesThreads, kBlocks<Width>)
    planes_kernel(const __grid_constant__ PlanesParams args) {
  constexpr int kRows = 16 * kTiles<Width>;
  NLDF_DYNAMIC_SHARED(shared);
  planes_load(args.net, args.at, shared);
  const PlanesPlace place = planes_place<Shared>(args.net, args.at, args.own, kRows, shared);
  const int lane = threadIdx.x % 32;
  __syncthreads();
  const int64_t step = static_cast<int64_t>(gridDim.x) * kPlanesWarps;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kPlanesWarps + threadIdx.x / 32;
       tile < args.frames * args.tiles; tile += step) {
    const int64_t frame = tile / args.tiles, within = tile % args.tiles * kRows + lane;
    const bool mine = lane < kRows && within < args.rays;
    const int64_t ray = frame * args.rays + (mine ? within : args.rays - 1);
    if (lane < kRows) {
      float start[2], slope[2];
      planes_line(args.origins + 3 * ray, args.directions + 3 * ray, args.net.box, start, slope);
      place.lines[lane] = make_float4(start[0], start[1], slope[0], slope[1]);
    }
    __syncwarp();
    PlanesWarp<Width, kTiles<Width>>(args.net, place)
        .run(args.warp_bias + frame * Width, args.bias + frame * Width);
    __syncwarp();
    if (mine) {
      const float* const out = place.results + lane * place.stride;
      const int colors = 3 * args.net.planes;
      const float opacity = planes_opacity(args.net.opacity_slope, out[colors]);
      const float half = 0.5f / static_cast<float>(args.net.planes);
      for (int c = 0; c < colors; ++c) args.segments[ray * colors + c] = (out[c] + half) * opacity;
      args.opacity[ray] = opacity;
    }
  }
}

template <int Width>
void launch_planes(PlanesParams& params, const Exec& exec) {
  constexpr int kRows = 16 * kTiles<Width>;
  SharedPlan plan;
  const bool shared = planes_weight_bytes(params.net) <= kPlanesSharedWeights;
  params.at = planes_shared(params.net, shared, plan);
  params.own = planes_own(kRows, params.net.stride(), plan);
  params.tiles = (params.rays + kRows - 1) / kRows;
  const int64_t warps = params.frames * params.tiles;
  // Every block reads all weights once, so there are as many as run at once.
  const int64_t most = kBlocks<Width> * static_cast<int64_t>(multiprocessors(exec));
  const int64_t blocks = std::min((warps + kPlanesWarps - 1) / kPlanesWarps, most);
  const auto kernel = shared ? planes_kernel<Width, true> : planes_kernel<Width, false>;
  launch_shape("planes", kernel, {dim3(static_cast<unsigned>(blocks)), kPlanesThreads, plan.bytes}, exec,
               params);
}

}  // namespace

void planes_cuda(const PlanesArgs<float, Half>& args, const Exec& exec) {
  if (args.frames * args.rays == 0) return;
  PlanesParams params{planes_device(args.network),
                      {},
                      {},
                      args.origins,
                      args.directions,
                      args.warp_bias,
                      args.bias,
                      args.segments,
                      args.opacity,
                      args.frames,
                      args.rays,
                      0};
  switch (args.network.width) {
    case 32:
      return launch_planes<32>(params, exec);
    case 64:
      return launch_planes<64>(params, exec);
    case 128:
      return launch_planes<128>(params, exec);
    default:
      throw std::invalid_argument("planes: width must be 32, 64 or 128, got " +
                                  std::to_string(args.network.width));
  }
}

}  // namespace nldf
