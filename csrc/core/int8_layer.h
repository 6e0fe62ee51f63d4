// A linear layer of a tile of rays with its products in 8 bits and its sums in int32; for the layout of the
// tile see core/lanes.h, for that of the weights core/panels.h.
//
// Inputs are unsigned: every ray's go from its lowest one to its highest in 255 steps, and what the lowest
// one adds is its product with the weights' sums.
#pragma once

#include "core/int16_layer.h"

namespace nldf {
namespace {

// dot(sum, x, w): to each int32 of sum adds the four products of the unsigned bytes of x and the signed ones
// of w: the even ones, then the odd ones.
template <int Bytes>
struct Int8Dot {
  using Words = Int16Dot<Bytes>;
  typedef int32_t Integers __attribute__((vector_size(Bytes)));
  typedef int16_t Halves __attribute__((vector_size(Bytes)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    const Integers even = (Integers)((Halves)w << 8 >> 8), odd = (Integers)((Halves)w >> 8);
    return Words::dot(Words::dot(sum, x & 0x00ff00ff, even), (x >> 8) & 0x00ff00ff, odd);
  }
};
#ifdef __AVX512VNNI__
template <>
struct Int8Dot<64> {
  typedef int32_t Integers __attribute__((vector_size(64)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return (Integers)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
  }
};
#endif

// Lanes that have integers too.
template <class L>
struct Int8Lanes : L, Int8Dot<static_cast<int>(sizeof(typename L::Vector))> {};

constexpr float kInt8Steps = 255.0f;

// V vectors of rays, [features] each, to bytes of four neighbouring features [features / 4]; scales[V] is
// what a step is worth, and lowest[V] what the byte 0 is.
template <class L, int V>
inline void quantize_int8(const float* z, int64_t features, int32_t* quads, float* scales, float* lowest) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Integers* to = reinterpret_cast<Integers*>(quads);
  Vector low[V], high[V], scale[V];
  for (int v = 0; v < V; ++v) low[v] = high[v] = from[v];
  for (int64_t k = 1; k < features; ++k) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector a = from[k * V + v];
      low[v] = a < low[v] ? a : low[v];
      high[v] = a > high[v] ? a : high[v];
    }
  }
  for (int v = 0; v < V; ++v) {
    const Vector range = high[v] - low[v];
    scale[v] = range > 1e-30f ? kInt8Steps / range : Vector{};
    reinterpret_cast<Vector*>(scales)[v] = range / kInt8Steps;
    reinterpret_cast<Vector*>(lowest)[v] = low[v];
  }
  const float magic = 12582912.0f;  // rounds to the nearest, and leaves the integer in the low bits
  for (int64_t k = 0; k < features; k += 4) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      Integers made = {};
      NLDF_UNROLL
      for (int i = 0; i < 4; ++i) {
        const Vector shifted = (from[(k + i) * V + v] - low[v]) * scale[v] + magic;
        made |= ((Integers)shifted & 0xff) << (8 * i);
      }
      to[k / 4 * V + v] = made;
    }
  }
}

// Features f..f+N of V vectors of rays from `quads` quads of inputs, stored as `How` says. `sums` are those
// of the integers of a feature's weights, times what one is worth.
template <class L, int V, Store How>
inline void multiply_int8(const int32_t* x, const float* scales, const float* lowest, const int32_t* weights,
                          int64_t quads, const float* weight_scale, const float* sums, const float* bias,
                          float* y) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  constexpr int N = L::features;
  Integers sum[N][V] = {};
  multiply_integers<L, V>(x, weights, quads, sum);
  Vector* to = reinterpret_cast<Vector*>(y);
  const Vector* scale = reinterpret_cast<const Vector*>(scales);
  const Vector* low = reinterpret_cast<const Vector*>(lowest);
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      Vector value = __builtin_convertvector(sum[f][v], Vector) * (scale[v] * weight_scale[f]) +
                     (low[v] * sums[f] + bias[f]);
      if (How == Store::relu) value = relu(value);
      to[f * V + v] = How == Store::add ? to[f * V + v] + value : value;
    }
  }
}

}  // namespace
}  // namespace nldf
