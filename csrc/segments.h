// Samples along rays to the colours of M segments, NLDF eq. (5); the only place this mathematics lives.
//
// With e_k = exp(-sigma_k delta_k) and T_k = prod_{j<k} e_j over ALL samples before k, sample k weighs
// w_k = T_k (1 - e_k); segment i sums w_k c_k over its S / M samples; the opacity is 1 - T_S.
#pragma once

#include <cstdint>
#include <tuple>

#include "fields.h"
#include "hd.h"
#include "maths.h"

namespace nldf {

template <class T>
struct SegmentsArgs {
  const T* sigma;    // [R, S]
  const T* rgb;      // [R, S, 3]
  const T* delta;    // [R, S]
  T* colors;         // [R, M, 3]
  T* opacity;        // [R]
  T* weights;        // [R, S], or null where nobody asked for them
  int64_t rays;      // R
  int64_t samples;   // S, a multiple of M
  int64_t segments;  // M

  static constexpr auto fields() {
    return std::make_tuple(field("sigma", &SegmentsArgs::sigma), field("rgb", &SegmentsArgs::rgb),
                           field("delta", &SegmentsArgs::delta), field("colors", &SegmentsArgs::colors),
                           field("opacity", &SegmentsArgs::opacity), field("weights", &SegmentsArgs::weights),
                           field("rays", &SegmentsArgs::rays), field("samples", &SegmentsArgs::samples),
                           field("segments", &SegmentsArgs::segments));
  }
};

template <class T>
struct SegmentsBackwardArgs {
  const T* sigma;      // [R, S]
  const T* rgb;        // [R, S, 3]
  const T* delta;      // [R, S]
  const T* v_colors;   // [R, M, 3]
  const T* v_opacity;  // [R]
  T* v_sigma;          // [R, S]; holds the transmittances on the way
  T* v_rgb;            // [R, S, 3]
  T* v_delta;          // [R, S], or null where nobody asked for it
  int64_t rays;
  int64_t samples;
  int64_t segments;

  static constexpr auto fields() {
    return std::make_tuple(
        field("sigma", &SegmentsBackwardArgs::sigma), field("rgb", &SegmentsBackwardArgs::rgb),
        field("delta", &SegmentsBackwardArgs::delta), field("v_colors", &SegmentsBackwardArgs::v_colors),
        field("v_opacity", &SegmentsBackwardArgs::v_opacity),
        field("v_sigma", &SegmentsBackwardArgs::v_sigma), field("v_rgb", &SegmentsBackwardArgs::v_rgb),
        field("v_delta", &SegmentsBackwardArgs::v_delta), field("rays", &SegmentsBackwardArgs::rays),
        field("samples", &SegmentsBackwardArgs::samples), field("segments", &SegmentsBackwardArgs::segments));
  }
};

// e_k: what a sample lets through.
template <class T>
NLDF_HD T sample_pass(T sigma, T delta) {
  return exponential(-sigma * delta);
}

// Gradient with respect to the optical depth sigma_k delta_k. With g_j = v_color(segment of j) . c_j:
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
  T transmittance = 1;
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
        transmittance *= pass[i];
      }
    }
    T* color = args.colors + (ray * args.segments + segment) * 3;
    color[0] = red, color[1] = green, color[2] = blue;
  }
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
  T behind = 0;
  int64_t k = args.samples - 1;
  for (int64_t segment = args.segments - 1; segment >= 0; --segment) {
    const T* v_color = args.v_colors + (ray * args.segments + segment) * 3;
    const T v_red = v_color[0], v_green = v_color[1], v_blue = v_color[2];
    for (; k >= segment * per_segment; --k) {
      const T* c = args.rgb + 3 * (first + k);
      const T g = v_red * c[0] + v_green * c[1] + v_blue * c[2];
      const T weight = (k ? next[k - 1] : T(1)) - next[k];
      const T v_depth = depth_gradient(next[k], g, behind, args.v_opacity[ray], last);
      behind += weight * g;
      T* v_rgb = args.v_rgb + 3 * (first + k);
      v_rgb[0] = weight * v_red, v_rgb[1] = weight * v_green, v_rgb[2] = weight * v_blue;
      if (args.v_delta) args.v_delta[first + k] = args.sigma[first + k] * v_depth;
      next[k] = args.delta[first + k] * v_depth;
    }
  }
}

template <class T>
void segments_cpu(const SegmentsArgs<T>& args, const Exec& exec);
template <class T>
void segments_backward_cpu(const SegmentsBackwardArgs<T>& args, const Exec& exec);
void segments_cuda(const SegmentsArgs<float>& args, const Exec& exec);
void segments_backward_cuda(const SegmentsBackwardArgs<float>& args, const Exec& exec);

}  // namespace nldf
