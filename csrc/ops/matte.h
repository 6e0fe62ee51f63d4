// A head over a torso over a background compared with a picture, ray by ray, with gradients: what a portrait
// whose torso is learned along with its head is trained by; the only place this mathematics lives.
//
// With the head's colour h (the sum over segments) and opacity a, the torso's colour t (times its opacity)
// and opacity b, and the background g:
//
//   error = h + (1 - a) (t + (1 - b) g) - target
//   pixel = mean over rays of |error|^2,   edges = mean over rays and channels of sqrt(error^2 + 1e-6)
//   opacity = mean of w(speaker) (1 - (1 - a) (1 - b) - speaker)^2
//           + parts * mean of w(mask) (a - mask)^2 where the label is of head or torso
//           + hidden * mean of |t - plate|^2 + (b - dense)^2 where the label is of the head
//   w(m) = (outside + (1 - outside) m) (1 + (inside - 1) m interior)
//   total = pixel + 3 sharp edges + weight * opacity
#pragma once

#include <cmath>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

template <class T>
struct MatteArgs {
  NLDF_FIELDS((const T*, segments),      // [N, M, 3] the head's
              (const T*, opacity),       // [N]
              (const T*, color),         // [N, 3] the torso's, times its opacity
              (const T*, alpha),         // [N]
              (const T*, behind),        // [N, 3]
              (const T*, target),        // [N, 3]
              (const T*, mask),          // [N] 1 where the head and what it draws is, else 0
              (const T*, interior),      // [N] 1 in the speaker's interior, else 0
              (const T*, plate),         // [N, 3] a guess at the torso's colour, times its opacity
              (const T*, dense),         // [N] and at its opacity
              (const uint8_t*, labels),  // [N]
              // Forward; null on the way back.
              (T*, error),    // [N, 3]
              (T*, figures),  // [3]: total, pixel, opacity
              (T*, partial),  // [matte_pieces(N), 3]
              // The way back; null forward.
              (const T*, v_error),  // [N, 3], or null
              (const T*, v_total),  // [1], or null
              (T*, v_segments), (T*, v_opacity), (T*, v_color), (T*, v_alpha), (int64_t, rays),  // N
              (int64_t, planes),                                                                 // M
              (int64_t, background), (int64_t, head), (int64_t, torso),                          // labels
              (T, outside), (T, inside), (T, parts), (T, hidden), (T, sharp), (T, weight));
};

// Rays whose figures are added up together, in their order.
constexpr int64_t kMattePiece = 256;
NLDF_HD int64_t matte_pieces(int64_t rays) {
  return (rays + kMattePiece - 1) / kMattePiece;
}

// One ray: what is known of it, and what comes of it.
template <class T>
struct MatteRay {
  T opacity, alpha, speaker, mask, apart, hidden, weight, own_weight, both;
  T under[3], error[3], guess[3], miss;

  NLDF_HD MatteRay(const MatteArgs<T>& s, int64_t i) {
    const uint8_t label = s.labels[i];
    opacity = s.opacity[i], alpha = s.alpha[i], mask = s.mask[i];
    speaker = label != s.background ? T(1) : T(0);
    apart = label == s.head || label == s.torso ? T(1) : T(0);
    hidden = label == s.head ? T(1) : T(0);
    weight = weigh(s, speaker, s.interior[i]);
    own_weight = weigh(s, mask, s.interior[i]);
    both = T(1) - (T(1) - opacity) * (T(1) - alpha) - speaker;
    for (int c = 0; c < 3; ++c) {
      T sum = 0;
      for (int64_t m = 0; m < s.planes; ++m) sum += s.segments[(i * s.planes + m) * 3 + c];
      under[c] = s.color[3 * i + c] + (T(1) - alpha) * s.behind[3 * i + c];
      error[c] = sum + (T(1) - opacity) * under[c] - s.target[3 * i + c];
      guess[c] = s.color[3 * i + c] - s.plate[3 * i + c];
    }
    miss = alpha - s.dense[i];
  }
  static NLDF_HD T weigh(const MatteArgs<T>& s, T mask, T interior) {
    return (s.outside + (T(1) - s.outside) * mask) * (T(1) + (s.inside - T(1)) * mask * interior);
  }
  static NLDF_HD T edge(T error) { return std::sqrt(error * error + T(1e-6)); }

  // Adds to the sums of squared errors, of edges and of the opacity's errors.
  NLDF_HD void add(const MatteArgs<T>& s, T* sums) const {
    T square = miss * miss;
    for (int c = 0; c < 3; ++c) {
      sums[0] += error[c] * error[c];
      sums[1] += edge(error[c]);
      square += guess[c] * guess[c];
    }
    const T own = opacity - mask;
    sums[2] += weight * both * both + s.parts * own_weight * apart * own * own + s.hidden * hidden * square;
  }

  // The gradients, of v_error [3] (or null) and v_total.
  NLDF_HD void back(const MatteArgs<T>& s, int64_t i, T v_total) const {
    const T each = v_total / static_cast<T>(s.rays), two = T(2) * each * s.weight;
    T v_opacity = two * (weight * both * (T(1) - alpha) + s.parts * own_weight * apart * (opacity - mask));
    T v_alpha = two * (weight * both * (T(1) - opacity) + s.hidden * hidden * miss);
    for (int c = 0; c < 3; ++c) {
      const T e = error[c];
      const T v = (s.v_error ? s.v_error[3 * i + c] : T(0)) + each * (T(2) * e + s.sharp * e / edge(e));
      for (int64_t m = 0; m < s.planes; ++m) s.v_segments[(i * s.planes + m) * 3 + c] = v;
      v_opacity -= v * under[c];
      v_alpha -= v * (T(1) - opacity) * s.behind[3 * i + c];
      s.v_color[3 * i + c] = v * (T(1) - opacity) + two * s.hidden * hidden * guess[c];
    }
    s.v_opacity[i] = v_opacity, s.v_alpha[i] = v_alpha;
  }
};

// The figures of the sums over all rays.
template <class T>
NLDF_HD void matte_figures(const MatteArgs<T>& s, const T* sums, T* figures) {
  const T rays = static_cast<T>(s.rays > 0 ? s.rays : 1);
  figures[1] = sums[0] / rays, figures[2] = sums[2] / rays;
  figures[0] = figures[1] + s.sharp * sums[1] / rays + s.weight * figures[2];
}

template <class T>
void matte_cpu(const MatteArgs<T>& args, const Exec& exec);
template <class T>
void matte_backward_cpu(const MatteArgs<T>& args, const Exec& exec);
void matte_cuda(const MatteArgs<float>& args, const Exec& exec);
void matte_backward_cuda(const MatteArgs<float>& args, const Exec& exec);

}  // namespace nldf
