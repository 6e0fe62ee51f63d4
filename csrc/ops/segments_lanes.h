// Segments in vectors: segments.h's mathematics, whose product along the ray becomes one along vectors of
// samples. What is summed over samples runs in lanes of samples where it is a colour (`Colors`), and in lanes
// of channels where it is a row of any other length (`Rows`).
//
// Vectors are cut from the ray's first sample on, whatever the segments are, so that transmittances, weights
// and opacity don't depend on M.
#pragma once

#include "core/stream.h"
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

// Features of three channels, which take part in the arithmetic as triples.
template <class L>
struct Colors {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  static constexpr int n = L::lanes;

  template <class Args>
  static int64_t channels_of(const Args&) {
    return kColorChannels;
  }

  // Asks for the colours of a vector of samples, which are read once the ray's transmittances are known.
  template <class Args>
  static void fetch(const Args& args, int64_t sample) {
    constexpr int kLine = 64 / static_cast<int>(sizeof(T));
    for (int i = 0; i < 3 * n; i += kLine) __builtin_prefetch(args.features + 3 * sample + i);
  }

  // The sum of a segment's `count` samples; `weights` are the ray's, `last` is its T_S.
  static void composite(const SegmentsArgs<T>& args, int64_t ray, int64_t segment, int64_t count,
                        const T* weights, T last) {
    const int64_t stop = (segment + 1) * count;
    const T* const rgb = args.features + 3 * ray * args.samples;
    int64_t k = segment * count;
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
    memcpy(args.composited + (ray * args.segments + segment) * 3, color, sizeof(color));
  }

  // What the sum of a segment has to do with its samples: g_k into `g`, v_features and v_distances out.
  static void backward(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t segment, int64_t count,
                       const T* weights, T* g) {
    const int64_t first = ray * args.samples, stop = (segment + 1) * count;
    const T v_expected = ray_v_depth(args, ray);
    const T* const v_color = segment_gradient(args, ray, segment);
    V v_colors[3];
    Triples<L>::repeat(v_color, v_colors);
    int64_t k = segment * count;
    for (; k + n <= stop; k += n) {
      const V weight = A::load(weights + k);
      V three[3];
      Triples<L>::load(args.features + 3 * (first + k), three);
      for (int v = 0; v < 3; ++v) three[v] *= v_colors[v];
      V sum = Triples<L>::template part<0>(three) + Triples<L>::template part<1>(three) +
              Triples<L>::template part<2>(three);
      if (args.distances) sum += v_expected * A::load(args.distances + first + k);
      A::store(g + k, sum);
      if (args.v_distances) A::store(args.v_distances + first + k, weight * v_expected);
      Triples<L>::spread(weight, three);
      for (int v = 0; v < 3; ++v) three[v] *= v_colors[v];
      Triples<L>::store(args.v_features + 3 * (first + k), three);
    }
    for (; k < stop; ++k) {
      const T* const c = args.features + 3 * (first + k);
      g[k] = v_color[0] * c[0] + v_color[1] * c[1] + v_color[2] * c[2];
      if (args.distances) g[k] += v_expected * args.distances[first + k];
      if (args.v_distances) args.v_distances[first + k] = weights[k] * v_expected;
      for (int i = 0; i < 3; ++i) args.v_features[3 * (first + k) + i] = weights[k] * v_color[i];
    }
  }
};

// Features of any number of channels. Rows of several samples are walked at once, whole and in the order of
// memory, so that the sums, which lie in the first cache, are loaded and stored once for all of them.
template <class L>
struct Rows {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  static constexpr int n = L::lanes;
  static constexpr int kAtOnce = 4;

  template <class Args>
  static int64_t channels_of(const Args& args) {
    return args.channels;
  }

  template <class Args>
  static void fetch(const Args&, int64_t) {}  // rows are read in order, as hardware prefetches

  // Adds `Count` rows of `channels`, weighted, to `sums`.
  template <int Count>
  static void add(const T* rows, const T* weights, int64_t channels, T* sums) {
    V weight[Count];
    for (int r = 0; r < Count; ++r) weight[r] = A::all(weights[r]);
    int64_t c = 0;
    for (; c + n <= channels; c += n) {
      V sum = A::load(sums + c);
      NLDF_UNROLL
      for (int r = 0; r < Count; ++r) sum += weight[r] * A::load(rows + r * channels + c);
      A::store(sums + c, sum);
    }
    for (; c < channels; ++c)
      for (int r = 0; r < Count; ++r) sums[c] += weights[r] * rows[r * channels + c];
  }

  static void composite(const SegmentsArgs<T>& args, int64_t ray, int64_t segment, int64_t count,
                        const T* weights, T last) {
    const int64_t channels = args.channels, stop = (segment + 1) * count;
    const T* const rows = args.features + ray * args.samples * channels;
    T* const sums = args.composited + (ray * args.segments + segment) * channels;
    for (int64_t c = 0; c < channels; ++c) sums[c] = 0;
    int64_t k = segment * count;
    for (; k + kAtOnce <= stop; k += kAtOnce) add<kAtOnce>(rows + k * channels, weights + k, channels, sums);
    for (; k < stop; ++k) add<1>(rows + k * channels, weights + k, channels, sums);
    if (args.background && segment == args.segments - 1)
      add<1>(args.background + ray * channels, &last, channels, sums);
  }

  // `Count` samples of a segment whose sum has the gradient `v`: v . row into `g`, the rows' own gradients
  // into `v_rows`.
  template <int Count, bool Stream>
  static void back(const T* v, const T* rows, const T* weights, int64_t channels, T* g, T* v_rows) {
    V weight[Count], products[Count] = {};
    for (int r = 0; r < Count; ++r) weight[r] = A::all(weights[r]);
    int64_t c = 0;
    for (; c + n <= channels; c += n) {
      const V some = A::load(v + c);
      NLDF_UNROLL
      for (int r = 0; r < Count; ++r) {
        products[r] += some * A::load(rows + r * channels + c);
        if constexpr (Stream)
          stream_vector(v_rows + r * channels + c, weight[r] * some);
        else
          A::store(v_rows + r * channels + c, weight[r] * some);
      }
    }
    for (int r = 0; r < Count; ++r) g[r] = A::sum(products[r]);
    for (; c < channels; ++c) {
      for (int r = 0; r < Count; ++r) {
        g[r] += v[c] * rows[r * channels + c];
        v_rows[r * channels + c] = weights[r] * v[c];
      }
    }
  }

  template <bool Stream>
  static void segment_back(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t segment, int64_t count,
                           const T* weights, T* g) {
    const int64_t channels = args.channels, first = ray * args.samples * channels;
    const T *const v = segment_gradient(args, ray, segment), *const rows = args.features + first;
    T* const v_rows = args.v_features + first;
    const int64_t stop = (segment + 1) * count;
    int64_t k = segment * count;
    for (; k + kAtOnce <= stop; k += kAtOnce)
      back<kAtOnce, Stream>(v, rows + k * channels, weights + k, channels, g + k, v_rows + k * channels);
    for (; k < stop; ++k)
      back<1, Stream>(v, rows + k * channels, weights + k, channels, g + k, v_rows + k * channels);
  }

  static void backward(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t segment, int64_t count,
                       const T* weights, T* g) {
    const int64_t bytes = args.rays * args.samples * args.channels * static_cast<int64_t>(sizeof(T));
    if (bytes >= kStreamBytes && args.channels % n == 0 && can_stream<V>(args.v_features))
      segment_back<true>(args, ray, segment, count, weights, g);
    else
      segment_back<false>(args, ray, segment, count, weights, g);
    if (args.distances) add_depth(args, ray, segment * count, (segment + 1) * count, weights, g);
  }

  // The depth's part of g_k, and v_distances.
  static void add_depth(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t begin, int64_t end,
                        const T* weights, T* g) {
    const int64_t first = ray * args.samples;
    const T v_expected = ray_v_depth(args, ray);
    for (int64_t k = begin; k < end; ++k) {
      g[k] += v_expected * args.distances[first + k];
      if (args.v_distances) args.v_distances[first + k] = weights[k] * v_expected;
    }
  }
};

template <class L, class Channels>
void composite_lanes(const SegmentsArgs<typename L::Scalar>& args, int64_t begin, int64_t end,
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
      Channels::fetch(args, first + k);
      const V pass = A::load_some(pass_of + k, samples - k, 1);
      const V next = through * A::products(pass);
      const V weight = A::template shuffle<typename A::template Up<1>>(through, next) * (T(1) - pass);
      through = A::template shuffle<typename A::Last>(next, next);
      A::store(weights + k, weight);
      if (args.weights) A::store_some(args.weights + first + k, weight, samples - k);
      if (args.distances) depths += weight * A::load_some(args.distances + first + k, samples - k, 0);
    }
    const T last = through[0];
    for (int64_t segment = 0; segment < args.segments; ++segment)
      Channels::composite(args, ray, segment, per_segment, weights, last);
    if (args.depth) args.depth[ray] = A::sum(depths);
    args.opacity[ray] = T(1) - last;
  }
}

template <class L>
void segments_lanes(const SegmentsArgs<typename L::Scalar>& args, int64_t begin, int64_t end,
                    typename L::Scalar* scratch) {
  if (args.channels == kColorChannels)
    composite_lanes<L, Colors<L>>(args, begin, end, scratch);
  else
    composite_lanes<L, Rows<L>>(args, begin, end, scratch);
}

template <class L, class Channels>
void composite_backward_lanes(const SegmentsBackwardArgs<typename L::Scalar>& args, int64_t begin,
                              int64_t end, typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  using A = Along<L>;
  constexpr int n = L::lanes;
  const int64_t samples = args.samples, per_segment = args.segments ? samples / args.segments : 0;
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
      Channels::fetch(args, first + k);
      const V next = through * A::products(A::load_some(pass_of + k, samples - k, 1));
      A::store(nexts + k, next);
      A::store(weights + k, A::template shuffle<typename A::template Up<1>>(through, next) - next);
      through = A::template shuffle<typename A::Last>(next, next);
    }
    const T last = through[0], v_opacity = ray_v_opacity(args, ray, Channels::channels_of(args));
    for (int64_t segment = 0; segment < args.segments; ++segment)
      Channels::backward(args, ray, segment, per_segment, weights, g);
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
      for (int64_t c = 0; c < Channels::channels_of(args); ++c) background_gradient(args, ray, last, c);
  }
  finish_streams();
}

template <class L>
void segments_backward_lanes(const SegmentsBackwardArgs<typename L::Scalar>& args, int64_t begin, int64_t end,
                             typename L::Scalar* scratch) {
  if (args.channels == kColorChannels)
    composite_backward_lanes<L, Colors<L>>(args, begin, end, scratch);
  else
    composite_backward_lanes<L, Rows<L>>(args, begin, end, scratch);
}

}  // namespace
}  // namespace nldf
