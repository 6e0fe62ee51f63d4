// Segment colours in vectors of samples: segments.h's mathematics, whose product along the ray becomes one
// along vectors, and whose sums over samples run in lanes.
//
// Vectors are cut from the ray's first sample on, whatever the segments are, so that transmittances, weights
// and opacity don't depend on M.
#pragma once

#include "core/triples.h"
#include "ops/elementwise_kernels.h"

namespace nldf {
namespace {

// e_k of as many rays as are taken at once; returns the ray behind them. Apart from the products, because
// exponentials wait for nothing.
template <class Args, class T>
inline int64_t take_passes(const Args& args, int64_t ray, int64_t end, T* passes) {
  const int64_t left = end - ray, most = segments_at_once(args.samples);
  const int64_t rays = left < most ? left : most, count = rays * args.samples;
  const T *const sigma = args.sigma + ray * args.samples, *const delta = args.delta + ray * args.samples;
  NLDF_LANES
  for (int64_t i = 0; i < count; ++i) passes[i] = sample_pass(sigma[i], delta[i]);
  return ray + rays;
}

// Asks for the colours of a vector of samples, which are read once the ray's transmittances are known.
template <class L>
inline void fetch_colors(const typename L::Scalar* rgb) {
  constexpr int kLine = 64 / static_cast<int>(sizeof(typename L::Scalar));
  for (int i = 0; i < 3 * L::lanes; i += kLine) __builtin_prefetch(rgb + i);
}

template <class L>
void segments_lanes(const SegmentsArgs<typename L::Scalar>& args, int64_t begin, int64_t end,
                    typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  constexpr int n = L::lanes;
  const int64_t samples = args.samples, per_segment = args.segments ? samples / args.segments : 0;
  T* const weights = scratch;
  T* const passes = scratch + samples + kSegmentsRoom;
  for (int64_t ray = begin, known = begin; ray < end; ++ray) {
    const int64_t first = ray * samples;
    if (ray == known) known = take_passes(args, ray, end, passes);
    const T* const pass_of = passes + (ray - begin) % segments_at_once(samples) * samples;
    V through = A::all(1), depths{};
    for (int64_t k = 0; k < samples; k += n) {
      fetch_colors<L>(args.rgb + 3 * (first + k));
      const V pass = A::load_some(pass_of + k, samples - k, 1);
      const V next = through * A::products(pass);
      const V weight = A::template shuffle<typename A::template Up<1>>(through, next) * (T(1) - pass);
      through = A::template shuffle<typename A::Last>(next, next);
      A::store(weights + k, weight);
      if (args.weights) A::store_some(args.weights + first + k, weight, samples - k);
      if (args.distances) depths += weight * A::load_some(args.distances + first + k, samples - k, 0);
    }
    const T last = through[0];
    for (int64_t segment = 0; segment < args.segments; ++segment) {
      const T* const rgb = args.rgb + 3 * first;
      const int64_t stop = (segment + 1) * per_segment;
      int64_t k = segment * per_segment;
      T color[3] = {};
      if (k + n <= stop) {
        V sums[3] = {};
        for (; k + n <= stop; k += n) {
          V spread[3], colors[3];
          Triples<L>::spread(A::load(weights + k), spread);
          Triples<L>::load(rgb + 3 * k, colors);
          for (int v = 0; v < 3; ++v) sums[v] += spread[v] * colors[v];
        }
        Triples<L>::sum(sums, color);
      }
      for (; k < stop; ++k)
        for (int c = 0; c < 3; ++c) color[c] += weights[k] * rgb[3 * k + c];
      if (args.background && segment == args.segments - 1)
        for (int c = 0; c < 3; ++c) color[c] += last * args.background[3 * ray + c];
      memcpy(args.colors + (ray * args.segments + segment) * 3, color, sizeof(color));
    }
    if (args.depth) args.depth[ray] = A::sum(depths);
    args.opacity[ray] = T(1) - last;
  }
}

// What the colours of a segment have to do with its samples: g_k into `g`, v_rgb and v_distances out.
// `weights` are its samples'.
template <class L>
inline void segment_backward(const SegmentsBackwardArgs<typename L::Scalar>& args, int64_t ray,
                             int64_t segment, const typename L::Scalar* weights, typename L::Scalar* g) {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  constexpr int n = L::lanes;
  const int64_t per_segment = args.samples / args.segments, first = ray * args.samples;
  const int64_t stop = (segment + 1) * per_segment;
  const T* const v_color = args.v_colors + (ray * args.segments + segment) * 3;
  const T v_expected = ray_v_depth(args, ray);
  V v_colors[3];
  Triples<L>::repeat(v_color, v_colors);
  int64_t k = segment * per_segment;
  for (; k + n <= stop; k += n) {
    const V weight = A::load(weights + k);
    V three[3];
    Triples<L>::load(args.rgb + 3 * (first + k), three);
    for (int v = 0; v < 3; ++v) three[v] *= v_colors[v];
    V sum = Triples<L>::template part<0>(three) + Triples<L>::template part<1>(three) +
            Triples<L>::template part<2>(three);
    if (args.distances) sum += v_expected * A::load(args.distances + first + k);
    A::store(g + k, sum);
    if (args.v_distances) A::store(args.v_distances + first + k, weight * v_expected);
    Triples<L>::spread(weight, three);
    for (int v = 0; v < 3; ++v) three[v] *= v_colors[v];
    Triples<L>::store(args.v_rgb + 3 * (first + k), three);
  }
  for (; k < stop; ++k) {
    const T weight = weights[k];
    const T* const c = args.rgb + 3 * (first + k);
    g[k] = v_color[0] * c[0] + v_color[1] * c[1] + v_color[2] * c[2];
    if (args.distances) g[k] += v_expected * args.distances[first + k];
    if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
    for (int i = 0; i < 3; ++i) args.v_rgb[3 * (first + k) + i] = weight * v_color[i];
  }
}

template <class L>
void segments_backward_lanes(const SegmentsBackwardArgs<typename L::Scalar>& args, int64_t begin, int64_t end,
                             typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  constexpr int n = L::lanes;
  const int64_t samples = args.samples;
  // T_{k+1}, w_k and g_k, each with a room of a vector behind, where the last piece of a ray reads. The first
  // two both, though w_k = T_k - T_{k+1}: a load across two vectors that were just stored waits for them.
  T* const nexts = scratch;
  T* const weights = nexts + samples + kSegmentsRoom;
  T* const g = weights + samples + kSegmentsRoom;
  T* const passes = g + samples + kSegmentsRoom;
  A::store(g + samples, V{});
  for (int64_t ray = begin, known = begin; ray < end; ++ray) {
    const int64_t first = ray * samples;
    if (ray == known) known = take_passes(args, ray, end, passes);
    const T* const pass_of = passes + (ray - begin) % segments_at_once(samples) * samples;
    V through = A::all(1);
    for (int64_t k = 0; k < samples; k += n) {
      fetch_colors<L>(args.rgb + 3 * (first + k));
      const V next = through * A::products(A::load_some(pass_of + k, samples - k, 1));
      A::store(nexts + k, next);
      A::store(weights + k, A::template shuffle<typename A::template Up<1>>(through, next) - next);
      through = A::template shuffle<typename A::Last>(next, next);
    }
    const T last = through[0], v_opacity = ray_v_opacity(args, ray);
    for (int64_t segment = 0; segment < args.segments; ++segment)
      segment_backward<L>(args, ray, segment, weights, g);
    V behind{};
    for (int64_t k = samples ? (samples - 1) / n * n : -1; k >= 0; k -= n) {
      const V after = A::load(nexts + k), shown = A::load(g + k);
      const V sums = A::sums_above(A::load(weights + k) * shown) + behind;
      const V rest = A::template shuffle<typename A::template Down<1>>(sums, behind);
      behind = A::template shuffle<typename A::First>(sums, sums);
      const V v_depth = depth_gradient(after, shown, rest, A::all(v_opacity), A::all(last));
      const V delta = A::load_some(args.delta + first + k, samples - k, 0);
      A::store_some(args.v_sigma + first + k, delta * v_depth, samples - k);
      if (!args.v_delta) continue;
      const V sigma = A::load_some(args.sigma + first + k, samples - k, 0);
      A::store_some(args.v_delta + first + k, sigma * v_depth, samples - k);
    }
    if (args.v_background)
      for (int c = 0; c < 3; ++c) background_gradient(args, ray, last, c);
  }
}

}  // namespace
}  // namespace nldf
