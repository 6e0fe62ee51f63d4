// A linear layer of a tile of rays with its products in int16 and its sums in int32; for the layout of the
// tile see core/lanes.h, for that of the weights core/panels.h.
//
// Only the operands of the products are rounded. Every ray has its own scale at every layer, taken from its
// largest input, so nothing needs calibration and nothing is clipped; because lanes are rays, those scales
// are vectors like all else. The integers' sums are exact, in any order.
#pragma once

#include "core/lanes.h"
#include "core/panels.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace nldf {
namespace {

// dot(sum, x, w): to each int32 of sum adds the two products of int16 of x and w.
template <int Bytes>
struct Int16Dot {
  typedef int32_t Integers __attribute__((vector_size(Bytes)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return sum + (x << 16 >> 16) * (w << 16 >> 16) + (x >> 16) * (w >> 16);
  }
};
#ifdef __SSE2__
template <>
struct Int16Dot<16> {
  typedef int32_t Integers __attribute__((vector_size(16)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return sum + (Integers)_mm_madd_epi16((__m128i)x, (__m128i)w);
  }
};
#endif
#ifdef __AVX2__
template <>
struct Int16Dot<32> {
  typedef int32_t Integers __attribute__((vector_size(32)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return sum + (Integers)_mm256_madd_epi16((__m256i)x, (__m256i)w);
  }
};
#endif
#ifdef __AVX512VNNI__
template <>
struct Int16Dot<64> {
  typedef int32_t Integers __attribute__((vector_size(64)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return (Integers)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
  }
};
#endif

// Lanes that have integers too.
template <class L>
struct Int16Lanes : L, Int16Dot<static_cast<int>(sizeof(typename L::Vector))> {};

// Pairs that `inputs` numbers are filled up to.
inline int64_t int16_pairs(int64_t inputs) {
  return (inputs + 1) / 2;
}

// The largest sizes of V vectors of rays, [features] each.
template <class L, int V>
inline void find_largest(const float* z, int64_t features, typename L::Vector* largest) {
  using Vector = typename L::Vector;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Vector most[V] = {};
  for (int64_t k = 0; k < features; ++k) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector a = from[k * V + v], size = a > -a ? a : -a;
      most[v] = size > most[v] ? size : most[v];
    }
  }
  for (int v = 0; v < V; ++v) largest[v] = most[v];
}

// V vectors of rays, [features] each, to pairs of int16 [int16_pairs(features)]; scales[V] is what an integer
// is worth. Adding 1.5 * 2^23 rounds to the nearest and leaves the integer in the low bits.
template <class L, int V>
inline void quantize(const float* z, int64_t features, const typename L::Vector* largest, float levels,
                     int32_t* pairs, float* scales) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Integers* to = reinterpret_cast<Integers*>(pairs);
  Vector scale[V];
  for (int v = 0; v < V; ++v) {
    scale[v] = largest[v] > 1e-30f ? levels / largest[v] : Vector{};
    reinterpret_cast<Vector*>(scales)[v] = largest[v] / levels;
  }
  const float magic = 12582912.0f;
  int64_t k = 0;
  for (; k + 2 <= features; k += 2) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector even = from[k * V + v] * scale[v] + magic, odd = from[(k + 1) * V + v] * scale[v] + magic;
      to[k / 2 * V + v] = ((Integers)even & 0xffff) | ((Integers)odd << 16);
    }
  }
  if (k < features)
    for (int v = 0; v < V; ++v) to[k / 2 * V + v] = (Integers)(from[k * V + v] * scale[v] + magic) & 0xffff;
}

// Sums of the products of N features with V vectors of rays: `words` of 32 bits, each of several integers.
template <class L, int V>
inline void multiply_integers(const int32_t* x, const int32_t* weights, int64_t words,
                              typename L::Integers (&sum)[L::features][V]) {
  using Integers = typename L::Integers;
  const Integers* in = reinterpret_cast<const Integers*>(x);
  for (int64_t k = 0; k < words; ++k, in += V, weights += kPanel) {
    Integers a[V];
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) a[v] = in[v];
    NLDF_UNROLL
    for (int f = 0; f < L::features; ++f) {
      const Integers w = weights[f] - Integers{};
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) sum[f][v] = L::dot(sum[f][v], a[v], w);
    }
  }
}

// Features f..f+N of V vectors of rays from `pairs` pairs of inputs, stored as `How` says. Where `largest`
// [V] is given, the outputs, which are none below zero, raise it.
template <class L, int V, Store How>
inline void multiply_int16(const int32_t* x, const float* scales, const int32_t* weights, int64_t pairs,
                           const float* weight_scale, const float* bias, float* y,
                           typename L::Vector* largest = nullptr) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  constexpr int N = L::features;
  Integers sum[N][V] = {};
  multiply_integers<L, V>(x, weights, pairs, sum);
  Vector* to = reinterpret_cast<Vector*>(y);
  const Vector* scale = reinterpret_cast<const Vector*>(scales);
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      Vector value = __builtin_convertvector(sum[f][v], Vector) * (scale[v] * weight_scale[f]) + bias[f];
      if (How == Store::relu) value = relu(value);
      if (largest) largest[v] = value > largest[v] ? value : largest[v];
      to[f * V + v] = How == Store::add ? to[f * V + v] + value : value;
    }
  }
}

}  // namespace
}  // namespace nldf
