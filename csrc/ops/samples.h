// Drawing distances where a coarse pass saw density, merged with the coarse distances; the only place this
// mathematics lives (AD-NeRF section 3.3, after NeRF's hierarchical sampling).
//
// With m_j = (t_j + t_{j+1}) / 2, bin j = [m_j, m_{j+1}] holds the mass b_j = w_{j+1} + floor: the first and
// the last weight have no bin, and the floor keeps every bin reachable, so that a ray without any weight is
// sampled evenly. Draw k stands at the quantile u_k = (k + jitter_k) / count of that piecewise constant
// distribution. Masses are not normalised: it is u_k that is multiplied by their sum.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

template <class T>
struct SamplesArgs {
  NLDF_FIELDS((const T*, distances),  // [R, S], increasing
              (const T*, weights),    // [R, S]
              (const T*, jitter),     // [R, N] in [0, 1), or null for 1/2
              (T*, merged),           // [R, S + N], increasing
              (int64_t, rays),        // R
              (int64_t, samples),     // S, at least 3
              (int64_t, count));      // N
};

// Samples and draws of a ray that a CUDA warp holds in shared memory: 2 S + N floats at most.
constexpr int kMostSharedSamples = 1024;

// b_j from a weight. What is no weight (negative, NaN) counts as none, and the upper end keeps sums finite.
template <class T>
NLDF_HD T sample_mass(T weight) {
  constexpr T kFloor = T(1e-5), kMost = T(1e15);
  const T held = weight > 0 ? (weight < kMost ? weight : kMost) : T(0);
  return held + kFloor;
}

template <class T>
NLDF_HD T sample_middle(const T* distances, int64_t j) {
  return T(0.5) * (distances[j] + distances[j + 1]);
}

// Where a draw of mass `target` falls in the bin [from, to] that holds the masses [lower, lower + mass].
// Held inside of the bin, so that draws of neighbouring bins stay in order whatever the rounding.
template <class T>
NLDF_HD T place_sample(T target, T lower, T mass, T from, T to) {
  T share = (target - lower) / mass;
  share = share > 0 ? (share < 1 ? share : T(1)) : T(0);
  const T place = from + share * (to - from);
  return place < to ? place : to;
}

template <class T>
NLDF_HD T sample_target(const SamplesArgs<T>& args, int64_t ray, int64_t k, T total) {
  const T jitter = args.jitter ? args.jitter[ray * args.count + k] : T(0.5);
  return (static_cast<T>(k) + jitter) / static_cast<T>(args.count) * total;
}

// One walk over the bins: draws come in order, and so do the coarse distances that they pass.
template <class T>
NLDF_HD void resample_ray(const SamplesArgs<T>& args, int64_t ray) {
  const T* t = args.distances + ray * args.samples;
  const T* w = args.weights + ray * args.samples;
  T* out = args.merged + ray * (args.samples + args.count);
  const int64_t bins = args.samples - 2;
  T total = 0;
  for (int64_t j = 0; j < bins; ++j) total += sample_mass(w[j + 1]);
  int64_t bin = 0, passed = 0;
  T lower = 0, mass = sample_mass(w[1]);
  T from = sample_middle(t, 0), to = sample_middle(t, 1);
  for (int64_t k = 0; k < args.count; ++k) {
    const T target = sample_target(args, ray, k, total);
    while (bin + 1 < bins && target >= lower + mass) {
      lower += mass;
      ++bin;
      mass = sample_mass(w[bin + 1]);
      from = to;
      to = sample_middle(t, bin + 1);
    }
    const T place = place_sample(target, lower, mass, from, to);
    while (passed < args.samples && t[passed] <= place) *out++ = t[passed++];
    *out++ = place;
  }
  while (passed < args.samples) *out++ = t[passed++];
}

template <class T>
void samples_cpu(const SamplesArgs<T>& args, const Exec& exec);
void samples_cuda(const SamplesArgs<float>& args, const Exec& exec);

}  // namespace nldf
