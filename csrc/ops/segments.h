// Samples along rays to the features of M segments, NLDF eq. (5); the only place this mathematics lives.
//
// With e_k = exp(-sigma_k delta_k) and T_k = prod_{j<k} e_j over ALL samples before k, sample k weighs
// w_k = T_k (1 - e_k); segment i sums w_k f_k over its S / M samples, f_k having C channels: 3 where it is a
// colour, hundreds where it is a row of a feature map. The opacity is 1 - T_S. A background takes what is
// left, T_S, in the last segment: a further sample of infinite length. The depth is the sum of w_k t_k.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "core/maths.h"

namespace nldf {

template <class T>
struct SegmentsArgs {
  NLDF_FIELDS((const T*, sigma),       // [R, S]
              (const T*, features),    // [R, S, C]
              (const T*, delta),       // [R, S]
              (T*, composited),        // [R, M, C]
              (T*, opacity),           // [R]
              (T*, weights),           // [R, S], or null where not wanted
              (int64_t, rays),         // R
              (int64_t, samples),      // S, a multiple of M
              (int64_t, segments),     // M
              (int64_t, channels),     // C
              (const T*, background),  // [R, C], or null for none
              (const T*, distances),   // [R, S], t_k, or null where no depth is wanted
              (T*, depth));            // [R], or null
};

template <class T>
struct SegmentsBackwardArgs {
  NLDF_FIELDS((const T*, sigma),         // [R, S]
              (const T*, features),      // [R, S, C]
              (const T*, delta),         // [R, S]
              (const T*, v_composited),  // [R, M, C]
              (const T*, v_opacity),     // [R]
              (T*, v_sigma),             // [R, S]; holds the transmittances on the way
              (T*, v_features),          // [R, S, C]
              (T*, v_delta),             // [R, S], or null where not wanted
              (int64_t, rays), (int64_t, samples), (int64_t, segments), (int64_t, channels),
              (const T*, background),  // [R, C], or null
              (const T*, distances),   // [R, S], or null
              (const T*, v_depth),     // [R]; there where distances are
              (T*, v_background),      // [R, C], or null
              (T*, v_distances));      // [R, S], or null
};

// Channels of a colour: kernels hold them in registers, where they keep other numbers of channels in memory.
constexpr int kColorChannels = 3;

// What a ray's depth adds to the gradient of each weight, in units of t_k.
template <class T>
NLDF_HD T ray_v_depth(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  return args.distances ? args.v_depth[ray] : T(0);
}

// The gradient of what a segment sums.
template <class T>
NLDF_HD const T* segment_gradient(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t segment) {
  return args.v_composited + (ray * args.segments + segment) * args.channels;
}

// Gradient with respect to 1 - T_S: the background loses what the samples hide. `channels` are those of the
// arguments, for callers that know their number.
template <class T>
NLDF_HD T ray_v_opacity(const SegmentsBackwardArgs<T>& args, int64_t ray, int64_t channels) {
  T v_opacity = args.v_opacity[ray];
  if (args.background) {
    const T* v = segment_gradient(args, ray, args.segments - 1);
    for (int64_t c = 0; c < channels; ++c) v_opacity -= v[c] * args.background[channels * ray + c];
  }
  return v_opacity;
}

template <class T>
NLDF_HD void background_gradient(const SegmentsBackwardArgs<T>& args, int64_t ray, T last, int64_t c) {
  args.v_background[args.channels * ray + c] = last * segment_gradient(args, ray, args.segments - 1)[c];
}

// e_k: what a sample lets through.
template <class T>
NLDF_HD T sample_pass(T sigma, T delta) {
  return exponential(-sigma * delta);
}

// Gradient with respect to the optical depth sigma_k delta_k. With
// g_j = v_composited(segment of j) . f_j + v_depth t_j:
//   T_{k+1} g_k - sum_{j>k} w_j g_j + v_opacity T_S.
// Nothing is divided by 1 - alpha, so opaque samples are no special case.
template <class T>
NLDF_HD T depth_gradient(T next, T g, T behind, T v_opacity, T last) {
  return next * g - behind + v_opacity * last;
}

// How many samples' exponentials are taken at once, ahead of the serial product.
constexpr int kSampleBlock = 32;

// One ray, of `Channels` channels, which are held in registers, or of any number of them where that is 0.
template <int Channels, class T>
NLDF_HD void composite_ray_of(const SegmentsArgs<T>& args, int64_t ray) {
  const int64_t channels = Channels ? Channels : args.channels;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const T* sigma = args.sigma + ray * args.samples;
  const T* delta = args.delta + ray * args.samples;
  T transmittance = 1, depth = 0;
  for (int64_t segment = 0; segment < args.segments; ++segment) {
    T held[Channels ? Channels : 1];
    T* const out = args.composited + (ray * args.segments + segment) * channels;
    T* const sum = Channels ? held : out;
    for (int64_t c = 0; c < channels; ++c) sum[c] = 0;
    const int64_t end = (segment + 1) * per_segment;
    for (int64_t begin = segment * per_segment; begin < end; begin += kSampleBlock) {
      const int count = static_cast<int>(end - begin < kSampleBlock ? end - begin : kSampleBlock);
      T pass[kSampleBlock];
      for (int i = 0; i < count; ++i) pass[i] = sample_pass(sigma[begin + i], delta[begin + i]);
      for (int i = 0; i < count; ++i) {
        const int64_t k = ray * args.samples + begin + i;
        const T weight = transmittance * (T(1) - pass[i]);
        for (int64_t c = 0; c < channels; ++c) sum[c] += weight * args.features[k * channels + c];
        if (args.weights) args.weights[k] = weight;
        if (args.distances) depth += weight * args.distances[k];
        transmittance *= pass[i];
      }
    }
    for (int c = 0; c < Channels; ++c) out[c] = held[c];
  }
  if (args.background) {
    T* sum = args.composited + (ray * args.segments + args.segments - 1) * channels;
    for (int64_t c = 0; c < channels; ++c) sum[c] += transmittance * args.background[channels * ray + c];
  }
  if (args.depth) args.depth[ray] = depth;
  args.opacity[ray] = T(1) - transmittance;
}

template <int Channels, class T>
NLDF_HD void composite_ray_backward_of(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  const int64_t channels = Channels ? Channels : args.channels;
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const int64_t first = ray * args.samples;
  // Forward: v_sigma holds T_{k+1} until the way back has used it.
  T* next = args.v_sigma + first;
  for (int64_t k = 0; k < args.samples; ++k)
    next[k] = sample_pass(args.sigma[first + k], args.delta[first + k]);
  T last = 1;
  for (int64_t k = 0; k < args.samples; ++k) next[k] = last *= next[k];
  const T v_opacity = ray_v_opacity(args, ray, channels), v_expected = ray_v_depth(args, ray);
  T behind = 0;
  int64_t k = args.samples - 1;
  for (int64_t segment = args.segments - 1; segment >= 0; --segment) {
    T held[Channels ? Channels : 1];
    const T* const given = segment_gradient(args, ray, segment);
    for (int c = 0; c < Channels; ++c) held[c] = given[c];
    const T* const v = Channels ? held : given;
    for (; k >= segment * per_segment; --k) {
      const int64_t row = (first + k) * channels;
      const T weight = (k ? next[k - 1] : T(1)) - next[k];
      T g = 0;
      for (int64_t c = 0; c < channels; ++c) {
        g += v[c] * args.features[row + c];
        args.v_features[row + c] = weight * v[c];
      }
      if (args.distances) g += v_expected * args.distances[first + k];
      const T v_depth = depth_gradient(next[k], g, behind, v_opacity, last);
      behind += weight * g;
      if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
      if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
      next[k] = args.delta[first + k] * v_depth;
    }
  }
  if (args.v_background) {
    for (int64_t c = 0; c < channels; ++c) background_gradient(args, ray, last, c);
  }
}

template <class T>
NLDF_HD void composite_ray(const SegmentsArgs<T>& args, int64_t ray) {
  if (args.channels == kColorChannels)
    composite_ray_of<kColorChannels>(args, ray);
  else
    composite_ray_of<0>(args, ray);
}
template <class T>
NLDF_HD void composite_ray_backward(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  if (args.channels == kColorChannels)
    composite_ray_backward_of<kColorChannels>(args, ray);
  else
    composite_ray_backward_of<0>(args, ray);
}

template <class T>
void segments_cpu(const SegmentsArgs<T>& args, const Exec& exec);
template <class T>
void segments_backward_cpu(const SegmentsBackwardArgs<T>& args, const Exec& exec);
void segments_cuda(const SegmentsArgs<float>& args, const Exec& exec);
void segments_backward_cuda(const SegmentsBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
