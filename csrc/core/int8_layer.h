// A linear layer of a tile of rays with its products in 8 bits and its sums in int32; for the layout of the
// tile see core/lanes.h, for that of the weights core/panels.h.
//
// Inputs are unsigned: every ray's go from its lowest one to its highest in 255 steps, and what the lowest
// one adds is its product with the weights' sums. Where none is below zero, they go from there.
#pragma once

#include "core/int16_layer.h"

namespace nldf {
namespace {

// dot(sum, x, w): to each int32 of sum adds the four products of the unsigned bytes of x and the signed ones
// of w: the even ones, then the odd ones. join(x): the lowest bytes of four, that of x[0] first.
template <int Bytes>
struct Int8Dot {
  using Words = Int16Dot<Bytes>;
  typedef int32_t Integers __attribute__((vector_size(Bytes)));
  typedef int16_t Halves __attribute__((vector_size(Bytes)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    const Integers even = (Integers)((Halves)w << 8 >> 8), odd = (Integers)((Halves)w >> 8);
    return Words::dot(Words::dot(sum, x & 0x00ff00ff, even), (x >> 8) & 0x00ff00ff, odd);
  }
  static Integers join(const Integers (&x)[4]) {
    return (x[0] & 0xff) | ((x[1] & 0xff) << 8) | ((x[2] & 0xff) << 16) | (x[3] << 24);
  }
};
#ifdef __AVX512VNNI__
template <>
struct Int8Dot<64> {
  typedef int32_t Integers __attribute__((vector_size(64)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return (Integers)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
  }
  static Integers join(const Integers (&x)[4]) {
    const __m512i lowest = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    __m512i made = (__m512i)x[0];
    made = _mm512_mask_shuffle_epi8(made, 0x2222222222222222, (__m512i)x[1], lowest);
    made = _mm512_mask_shuffle_epi8(made, 0x4444444444444444, (__m512i)x[2], lowest);
    made = _mm512_mask_shuffle_epi8(made, 0x8888888888888888, (__m512i)x[3], lowest);
    return (Integers)made;
  }
};
#endif

// Lanes that have integers too.
template <class L>
struct Int8Lanes : L, Int8Dot<static_cast<int>(sizeof(typename L::Vector))> {};

constexpr float kInt8Steps = 255.0f;

// What the numbers of V vectors of rays, [features] each, go from and to.
template <class L, int V>
inline void find_range(const float* z, int64_t features, typename L::Vector* lowest,
                       typename L::Vector* highest) {
  using Vector = typename L::Vector;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Vector low[V], high[V];
  for (int v = 0; v < V; ++v) low[v] = high[v] = from[v];
  for (int64_t k = 1; k < features; ++k) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector a = from[k * V + v];
      low[v] = a < low[v] ? a : low[v];
      high[v] = a > high[v] ? a : high[v];
    }
  }
  for (int v = 0; v < V; ++v) lowest[v] = low[v], highest[v] = high[v];
}

// V vectors of rays, [features] each, to bytes of four neighbouring features [(features + 3) / 4], from
// lowest[V] (zero, and not read, where `Positive`) to highest[V]; scales[V] is what a step is worth.
template <class L, int V, bool Positive>
inline void quantize_int8(const float* z, int64_t features, const typename L::Vector* lowest,
                          const typename L::Vector* highest, int32_t* quads, float* scales) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Integers* to = reinterpret_cast<Integers*>(quads);
  Vector low[V], scale[V];
  for (int v = 0; v < V; ++v) {
    low[v] = Positive ? Vector{} : lowest[v];
    const Vector range = highest[v] - low[v];
    scale[v] = range > 1e-30f ? kInt8Steps / range : Vector{};
    reinterpret_cast<Vector*>(scales)[v] = range / kInt8Steps;
  }
  const float magic = 12582912.0f;  // rounds to the nearest, and leaves the integer in the low bits
  const auto step = [&](int64_t k, int v) {
    const Vector a = from[k * V + v];
    return (Integers)((Positive ? a : a - low[v]) * scale[v] + magic);
  };
  int64_t k = 0;
  for (; k + 4 <= features; k += 4) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Integers steps[4] = {step(k, v), step(k + 1, v), step(k + 2, v), step(k + 3, v)};
      to[k / 4 * V + v] = L::join(steps);
    }
  }
  if (k == features) return;
  for (int v = 0; v < V; ++v) {
    Integers steps[4] = {};
    for (int i = 0; k + i < features; ++i) steps[i] = step(k + i, v);
    to[k / 4 * V + v] = L::join(steps);
  }
}

// Features f..f+N of V vectors of rays from `quads` quads of inputs, stored as `How` says. `sums` are those
// of the integers of a feature's weights, times what one is worth; neither they nor `lowest` are read where
// inputs are `Positive`. Where `largest` [V] is given, the outputs, which are none below zero, raise it.
template <class L, int V, Store How, bool Positive>
inline void multiply_int8(const int32_t* x, const float* scales, const float* lowest, const int32_t* weights,
                          int64_t quads, const float* weight_scale, const float* sums, const float* bias,
                          float* y, typename L::Vector* largest = nullptr) {
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
      const Vector still = Positive ? bias[f] - Vector{} : low[v] * sums[f] + bias[f];
      Vector value = __builtin_convertvector(sum[f][v], Vector) * (scale[v] * weight_scale[f]) + still;
      if (How == Store::relu) value = relu(value);
      if (largest) largest[v] = value > largest[v] ? value : largest[v];
      to[f * V + v] = How == Store::add ? to[f * V + v] + value : value;
    }
  }
}

}  // namespace
}  // namespace nldf
