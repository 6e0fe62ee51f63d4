#include "core/access.cuh"
#include "core/launch.cuh"
#include "ops/references.h"

namespace nldf {

namespace {
constexpr int kThreads = 128;
constexpr int kTile = 64;  // lookups (a point in a reference) whose places a block finds at once
constexpr int kLanes = 8;  // that share a point's gradient, each taking every eighth access of its channels
constexpr unsigned kAll = 0xffffffffu;

// A lookup: the first of its four pixels, where the others are, and the weights of the next column and row.
struct Lookup {
  int64_t pixel;    // counted over all maps
  int column, row;  // pixels to the next column and row; 0 where there is none
  float right, low;
};

// Field by field: the runner of tests/simt sees no copies of whole structs.
template <class Args>
__device__ void find_lookup(const Args& args, int64_t r, float x, float y, Lookup& found) {
  const int width = static_cast<int>(args.width), height = static_cast<int>(args.height);
  int px, py;
  float right = 0, low = 0;
  if (args.nearest) {
    px = locate_pixel(x, width);
    py = locate_pixel(y, height);
  } else {
    locate_between(x, width, px, right);
    locate_between(y, height, py, low);
  }
  found.pixel = (r * args.height + py) * args.width + px;
  found.column = width > 1 ? 1 : 0;
  found.row = height > 1 ? width : 0;
  found.right = right;
  found.low = low;
}

// Pixel k of a lookup's four, in rows of maps; bit 0 is the next column, bit 1 the next row.
__device__ int64_t corner_pixel(const Lookup& at, int k) {
  return at.pixel + (k & 1 ? at.column : 0) + (k & 2 ? at.row : 0);
}
__device__ float corner_weight(const Lookup& at, int k) {
  return (k & 1 ? at.right : 1.0f - at.right) * (k & 2 ? at.low : 1.0f - at.low);
}

// Calls place(lookup, r) in a thread a lookup, which gives its place; then each(lookup, channel, number)
// with a thread a lookup and W channels: those from `channel` on, which are the features' from `number` on.
template <int W, class Args, class Place, class Each>
__device__ void over_lookups(const Args& args, const Place& place, const Each& each) {
  NLDF_SHARED(Lookup, lookups, kTile);
  const int64_t total = args.count * args.references;
  const int groups = static_cast<int>(args.channels / W);
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kTile; first < total;
       first += static_cast<int64_t>(gridDim.x) * kTile) {
    const int count = static_cast<int>(min(total - first, static_cast<int64_t>(kTile)));
    if (threadIdx.x < count) {
      const int64_t lookup = first + threadIdx.x, r = lookup % args.references;
      const float2 at = place(lookup, r);
      find_lookup(args, r, at.x, at.y, lookups[threadIdx.x]);
    }
    __syncthreads();  // the lookups are there
    for (int i = threadIdx.x; i < count * groups; i += kThreads) {
      const int lookup = i / groups, channel = (i - lookup * groups) * W;
      each(lookups[lookup], channel, (first + lookup) * args.channels + channel);
    }
    __syncthreads();  // the next lookups are written over them
  }
}

template <int W>
__global__ void __launch_bounds__(kThreads) references_kernel(ReferencesArgs<float> args) {
  const auto place = [&](int64_t lookup, int64_t r) {
    const float* const x = args.points + 3 * (lookup / args.references);
    const Sight<float> seen = see_point(args.projections + 12 * r, x[0], x[1], x[2]);
    float2 at = make_float2(seen.x, seen.y);
    if (args.offsets) at.x += args.offsets[2 * lookup], at.y += args.offsets[2 * lookup + 1];
    args.places[2 * lookup] = at.x;
    args.places[2 * lookup + 1] = at.y;
    return at;
  };
  over_lookups<W>(args, place, [&](const Lookup& at, int channel, int64_t number) {
    const float* const maps = args.maps + channel;
    Floats<W> sum{};
    if (args.nearest) {
      sum = load<W>(maps + at.pixel * args.channels);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const Floats<W> pixel = load<W>(maps + corner_pixel(at, k) * args.channels);
        const float weight = corner_weight(at, k);
#pragma unroll
        for (int c = 0; c < W; ++c) sum.value[c] += weight * pixel.value[c];
      }
    }
    store(args.features + number, sum);
  });
}

// Maps are shared by all points: their gradient is added up by atomic additions, in any order.
template <int W>
__global__ void __launch_bounds__(kThreads) references_maps_kernel(ReferencesBackwardArgs<float> args) {
  const auto place = [&](int64_t lookup, int64_t) {
    return make_float2(args.places[2 * lookup], args.places[2 * lookup + 1]);
  };
  over_lookups<W>(args, place, [&](const Lookup& at, int channel, int64_t number) {
    const Floats<W> v = load<W>(args.v_features + number);
    float* const maps = args.v_maps + channel;
    if (args.nearest) {
      add_atomically(maps + at.pixel * args.channels, v);
      return;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float weight = corner_weight(at, k);
      Floats<W> added;
#pragma unroll
      for (int c = 0; c < W; ++c) added.value[c] = weight * v.value[c];
      add_atomically(maps + corner_pixel(at, k) * args.channels, added);
    }
  });
}

// A lane's share of how a lookup's features change with its place.
template <int W>
__device__ float2 sum_slopes(const ReferencesBackwardArgs<float>& args, const Lookup& at, const float* v,
                             int lane) {
  float2 slope = make_float2(0, 0);
  for (int channel = lane * W; channel < args.channels; channel += kLanes * W) {
    const Floats<W> seen = load<W>(v + channel);
    float dots[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Floats<W> pixel = load<W>(args.maps + corner_pixel(at, k) * args.channels + channel);
#pragma unroll
      for (int c = 0; c < W; ++c) dots[k] += seen.value[c] * pixel.value[c];
    }
    slope.x += (1 - at.low) * (dots[1] - dots[0]) + at.low * (dots[3] - dots[2]);
    slope.y += (1 - at.right) * (dots[2] - dots[0]) + at.right * (dots[3] - dots[1]);
  }
  return slope;
}

__device__ float sum_lanes(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset; offset /= 2) value += __shfl_xor_sync(kAll, value, offset, kLanes);
  return value;
}

// kLanes threads a point, which walk its references. Every thread walks the same loops, because shuffles need
// the whole warp; `valid` guards memory. Asking for 8 blocks a multiprocessor keeps ptxas at 64 registers.
template <int W>
__global__ void __launch_bounds__(kThreads, 8) references_places_kernel(ReferencesBackwardArgs<float> args) {
  constexpr int kPoints = kThreads / kLanes;
  const int lane = threadIdx.x % kLanes;
  const int width = static_cast<int>(args.width), height = static_cast<int>(args.height);
  for (int64_t base = static_cast<int64_t>(blockIdx.x) * kPoints; base < args.count;
       base += static_cast<int64_t>(gridDim.x) * kPoints) {
    const int64_t point = base + threadIdx.x / kLanes;
    const bool valid = point < args.count;
    const float* const x = args.points + 3 * point;
    float v_point[3] = {};
    for (int64_t r = 0; r < args.references; ++r) {
      const int64_t lookup = point * args.references + r;
      float2 v = make_float2(0, 0);
      if (valid && !args.nearest) {
        const float2 at = make_float2(args.places[2 * lookup], args.places[2 * lookup + 1]);
        Lookup found;
        find_lookup(args, r, at.x, at.y, found);
        v = sum_slopes<W>(args, found, args.v_features + lookup * args.channels, lane);
        if (!place_counts(at.x, width)) v.x = 0;
        if (!place_counts(at.y, height)) v.y = 0;
      }
      v.x = sum_lanes(v.x);
      v.y = sum_lanes(v.y);
      if (!valid || lane != 0) continue;
      if (args.v_places) v.x += args.v_places[2 * lookup], v.y += args.v_places[2 * lookup + 1];
      if (args.v_offsets) args.v_offsets[2 * lookup] = v.x, args.v_offsets[2 * lookup + 1] = v.y;
      const float* const m = args.projections + 12 * r;
      see_point_backward(m, see_point(m, x[0], x[1], x[2]), v.x, v.y, v_point[0], v_point[1], v_point[2]);
    }
    if (!valid || lane != 0 || !args.v_points) continue;
#pragma unroll
    for (int c = 0; c < 3; ++c) args.v_points[3 * point + c] = v_point[c];
  }
}
}  // namespace

void references_cuda(const ReferencesArgs<float>& args, const Exec& exec) {
  const int width = access_width(args.channels, 4, {args.maps, args.features});
  const auto kernel = width == 4   ? references_kernel<4>
                      : width == 2 ? references_kernel<2>
                                   : references_kernel<1>;
  launch("references", kernel, args, args.count * args.references, kTile, kThreads, exec);
}

void references_backward_cuda(const ReferencesBackwardArgs<float>& args, const Exec& exec) {
  if (args.v_maps) {
    const int width = access_width(args.channels, 4, {args.v_maps, args.v_features});
    const auto kernel = width == 4   ? references_maps_kernel<4>
                        : width == 2 ? references_maps_kernel<2>
                                     : references_maps_kernel<1>;
    launch("references_backward", kernel, args, args.count * args.references, kTile, kThreads, exec);
  }
  if (args.v_points || args.v_offsets) {
    const int width = access_width(args.channels, 4, {args.maps, args.v_features});
    const auto kernel = width == 4   ? references_places_kernel<4>
                        : width == 2 ? references_places_kernel<2>
                                     : references_places_kernel<1>;
    launch("references_backward", kernel, args, args.count, kThreads / kLanes, kThreads, exec);
  }
}

}  // namespace nldf
