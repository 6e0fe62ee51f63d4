// Samples along rays to the colours of M segments, NLDF eq. (5); the only place this mathematics lives.
//
// With e_k = exp(-sigma_k delta_k) and T_k = prod_{j<k} e_j over ALL samples before k, sample k weighs
// w_k = T_k (1 - e_k); segment i sums w_k c_k over its S / M samples; the opacity is 1 - T_S. A background
// takes what is left, T_S, in the last segment: a further sample of infinite length. The depth is the sum of
// w_k t_k.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"
#include "core/maths.h"

namespace nldf {

template <class T>
struct SegmentsArgs {
  NLDF_FIELDS((const T*, sigma),       // [R, S]
              (const T*, rgb),         // [R, S, 3]
              (const T*, delta),       // [R, S]
              (T*, colors),            // [R, M, 3]
              (T*, opacity),           // [R]
              (T*, weights),           // [R, S], or null where not wanted
              (int64_t, rays),         // R
              (int64_t, samples),      // S, a multiple of M
              (int64_t, segments),     // M
              (const T*, background),  // [R, 3], or null for none
              (const T*, distances),   // [R, S], t_k, or null where no depth is wanted
              (T*, depth));            // [R], or null
};

template <class T>
struct SegmentsBackwardArgs {
  NLDF_FIELDS((const T*, sigma),      // [R, S]
              (const T*, rgb),        // [R, S, 3]
              (const T*, delta),      // [R, S]
              (const T*, v_colors),   // [R, M, 3]
              (const T*, v_opacity),  // [R]
              (T*, v_sigma),          // [R, S]; holds the transmittances on the way
              (T*, v_rgb),            // [R, S, 3]
              (T*, v_delta),          // [R, S], or null where not wanted
              (int64_t, rays), (int64_t, samples), (int64_t, segments),
              (const T*, background),  // [R, 3], or null
              (const T*, distances),   // [R, S], or null
              (const T*, v_depth),     // [R]; there where distances are
              (T*, v_background),      // [R, 3], or null
              (T*, v_distances));      // [R, S], or null
};

// What a ray's depth adds to the gradient of each weight, in units of t_k.
template <class T>
NLDF_HD T ray_v_depth(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  return args.distances ? args.v_depth[ray] : T(0);
}

// Gradient with respect to 1 - T_S: the background loses what the samples hide.
template <class T>
NLDF_HD T ray_v_opacity(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  T v_opacity = args.v_opacity[ray];
  if (args.background) {
    const T* v_color = args.v_colors + (ray * args.segments + args.segments - 1) * 3;
    for (int c = 0; c < 3; ++c) v_opacity -= v_color[c] * args.background[3 * ray + c];
  }
  return v_opacity;
}

template <class T>
NLDF_HD void background_gradient(const SegmentsBackwardArgs<T>& args, int64_t ray, T last, int c) {
  args.v_background[3 * ray + c] = last * args.v_colors[(ray * args.segments + args.segments - 1) * 3 + c];
}

// e_k: what a sample lets through.
template <class T>
NLDF_HD T sample_pass(T sigma, T delta) {
  return exponential(-sigma * delta);
}

// Gradient with respect to the optical depth sigma_k delta_k. With
// g_j = v_color(segment of j) . c_j + v_depth t_j:
//   T_{k+1} g_k - sum_{j>k} w_j g_j + v_opacity T_S.
// Nothing is divided by 1 - alpha, so opaque samples are no special case.
template <class T>
NLDF_HD T depth_gradient(T next, T g, T behind, T v_opacity, T last) {
  return next * g - behind + v_opacity * last;
}

// How many samples' exponentials are taken at once, ahead of the serial product.
constexpr int kSampleBlock = 32;

template <class T>
NLDF_HD void composite_ray(const SegmentsArgs<T>& args, int64_t ray) {
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const T* sigma = args.sigma + ray * args.samples;
  const T* delta = args.delta + ray * args.samples;
  const T* rgb = args.rgb + ray * args.samples * 3;
  T transmittance = 1, depth = 0;
  for (int64_t segment = 0; segment < args.segments; ++segment) {
    T red = 0, green = 0, blue = 0;
    const int64_t end = (segment + 1) * per_segment;
    for (int64_t begin = segment * per_segment; begin < end; begin += kSampleBlock) {
      const int count = static_cast<int>(end - begin < kSampleBlock ? end - begin : kSampleBlock);
      T pass[kSampleBlock];
      for (int i = 0; i < count; ++i) pass[i] = sample_pass(sigma[begin + i], delta[begin + i]);
      for (int i = 0; i < count; ++i) {
        const T weight = transmittance * (T(1) - pass[i]);
        const T* c = rgb + 3 * (begin + i);
        red += weight * c[0], green += weight * c[1], blue += weight * c[2];
        if (args.weights) args.weights[ray * args.samples + begin + i] = weight;
        if (args.distances) depth += weight * args.distances[ray * args.samples + begin + i];
        transmittance *= pass[i];
      }
    }
    T* color = args.colors + (ray * args.segments + segment) * 3;
    color[0] = red, color[1] = green, color[2] = blue;
  }
  if (args.background) {
    T* color = args.colors + (ray * args.segments + args.segments - 1) * 3;
    for (int c = 0; c < 3; ++c) color[c] += transmittance * args.background[3 * ray + c];
  }
  if (args.depth) args.depth[ray] = depth;
  args.opacity[ray] = T(1) - transmittance;
}

template <class T>
NLDF_HD void composite_ray_backward(const SegmentsBackwardArgs<T>& args, int64_t ray) {
  const int64_t per_segment = args.segments ? args.samples / args.segments : 0;
  const int64_t first = ray * args.samples;
  // Forward: v_sigma holds T_{k+1} until the way back has used it.
  T* next = args.v_sigma + first;
  for (int64_t k = 0; k < args.samples; ++k)
    next[k] = sample_pass(args.sigma[first + k], args.delta[first + k]);
  T last = 1;
  for (int64_t k = 0; k < args.samples; ++k) next[k] = last *= next[k];
  const T v_opacity = ray_v_opacity(args, ray), v_expected = ray_v_depth(args, ray);
  T behind = 0;
  int64_t k = args.samples - 1;
  for (int64_t segment = args.segments - 1; segment >= 0; --segment) {
    const T* v_color = args.v_colors + (ray * args.segments + segment) * 3;
    const T v_red = v_color[0], v_green = v_color[1], v_blue = v_color[2];
    for (; k >= segment * per_segment; --k) {
      const T* c = args.rgb + 3 * (first + k);
      T g = v_red * c[0] + v_green * c[1] + v_blue * c[2];
      if (args.distances) g += v_expected * args.distances[first + k];
      const T weight = (k ? next[k - 1] : T(1)) - next[k];
      const T v_depth = depth_gradient(next[k], g, behind, v_opacity, last);
      behind += weight * g;
      T* v_rgb = args.v_rgb + 3 * (first + k);
      v_rgb[0] = weight * v_red, v_rgb[1] = weight * v_green, v_rgb[2] = weight * v_blue;
      if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
      if (args.v_distances) args.v_distances[first + k] = weight * v_expected;
      next[k] = args.delta[first + k] * v_depth;
    }
  }
  if (args.v_background) {
    for (int c = 0; c < 3; ++c) background_gradient(args, ray, last, c);
  }
}

template <class T>
void segments_cpu(const SegmentsArgs<T>& args, const Exec& exec);
template <class T>
void segments_backward_cpu(const SegmentsBackwardArgs<T>& args, const Exec& exec);
void segments_cuda(const SegmentsArgs<float>& args, const Exec& exec);
void segments_backward_cuda(const SegmentsBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
