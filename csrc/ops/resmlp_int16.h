// A tile of rays through the residual MLP with the body's products in int16, sums in int32.
//
// Only the operands of the body's matrix products are rounded; residuals, biases, head and tail stay in
// float32. Every ray has its own scale at every layer, taken from its largest activation, so nothing needs
// calibration and nothing is clipped. Because lanes are rays, those scales are vectors like all else.
#pragma once

#include "ops/resmlp_tile.h"

namespace nldf {
namespace {

// `Dot` gives dot(sum, x, w): to each int32 of sum adds the two products of int16 of x and w.
template <class L, class Dot>
struct Int16Lanes : L {
  typedef int32_t Integers __attribute__((vector_size(sizeof(typename L::Vector))));
  static Integers dot(Integers sum, Integers x, Integers w) { return Dot::dot(sum, x, w); }
};

// V vectors of rays, [features] each, to pairs of int16 [features / 2]; scales[V] is what an integer is
// worth. Adding 1.5 * 2^23 rounds to the nearest and leaves the integer in the low bits.
template <class L, int V>
inline void quantize(const float* z, int64_t features, float levels, int32_t* pairs, float* scales) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  const Vector* from = reinterpret_cast<const Vector*>(z);
  Integers* to = reinterpret_cast<Integers*>(pairs);
  Vector largest[V] = {};
  for (int64_t k = 0; k < features; ++k) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector a = from[k * V + v], size = a > -a ? a : -a;
      largest[v] = size > largest[v] ? size : largest[v];
    }
  }
  Vector scale[V];
  for (int v = 0; v < V; ++v) {
    scale[v] = largest[v] > 1e-30f ? levels / largest[v] : Vector{};
    reinterpret_cast<Vector*>(scales)[v] = largest[v] / levels;
  }
  const float magic = 12582912.0f;
  for (int64_t k = 0; k < features; k += 2) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector even = from[k * V + v] * scale[v] + magic, odd = from[(k + 1) * V + v] * scale[v] + magic;
      to[k / 2 * V + v] = ((Integers)even & 0xffff) | ((Integers)odd << 16);
    }
  }
}

template <class L, int V, Store How>
inline void multiply_int16(const int32_t* pairs, const float* scales, const int32_t* weights, int64_t inputs,
                           const float* weight_scale, const float* bias, float* y) {
  using Vector = typename L::Vector;
  using Integers = typename L::Integers;
  constexpr int N = L::features;
  Integers sum[N][V] = {};
  const Integers* in = reinterpret_cast<const Integers*>(pairs);
  for (int64_t k = 0; k < inputs; k += 2, in += V, weights += kPanel) {
    Integers a[V];
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) a[v] = in[v];
    NLDF_UNROLL
    for (int f = 0; f < N; ++f) {
      const Integers w = weights[f] - Integers{};
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) sum[f][v] = L::dot(sum[f][v], a[v], w);
    }
  }
  Vector* to = reinterpret_cast<Vector*>(y);
  const Vector* scale = reinterpret_cast<const Vector*>(scales);
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vector value =
          __builtin_convertvector(sum[f][v], Vector) * (scale[v] * weight_scale[f]) + bias[f];
      to[f * V + v] = How == Store::add ? to[f * V + v] + value : relu(value);
    }
  }
}

// One layer of one group: quantise its inputs, multiply panel by panel.
template <class L, Store How>
struct Int16Op {
  const float* x;
  const int32_t* weights;
  int64_t width;
  const float *weight_scale, *bias;
  float* y;
  int32_t* pairs;
  float* scales;
  float levels;
  bool quantizes;
  template <int V>
  void run() const {
    if (quantizes) return quantize<L, V>(x, width, levels, pairs, scales);
    for (int f = 0; f < kPanel; f += L::features)
      multiply_int16<L, V, How>(pairs, scales, weights + f, width, weight_scale + f, bias + f,
                                y + f * V * L::lanes);
  }
};

template <class L, Store How>
inline void layer_int16(const Cut<L>& cut, const float* x, const int32_t* weights, int64_t width,
                        const float* weight_scale, const float* bias, float* y, int32_t* pairs, float* scales,
                        float levels) {
  for (int64_t n = -kPanel; n < width; n += kPanel) {
    for (int64_t g = 0; g < cut.groups(); ++g) {
      const int64_t first = g * L::group;
      const int vectors = cut.vectors(g);
      const int64_t f = n < 0 ? 0 : n;
      with_vectors<L>(vectors,
                      Int16Op<L, How>{x + first * width, weights + f * (width / 2), width, weight_scale + f,
                                      bias + f, y + first * width + f * vectors * L::lanes,
                                      pairs + first * (width / 2), scales + first, levels, n < 0});
    }
  }
}

template <class L>
struct Int16Body {
  const ResmlpArgs<float>& args;
  static int64_t scratch(const ResmlpArgs<float>& args, int64_t rows) {
    return padded<L>(rows) * (args.width / 2 + 1) + 32;
  }
  void operator()(const Cut<L>& cut, int64_t rays, float* z, float* h, float* memory) const {
    const int64_t width = args.width;
    const float levels = static_cast<float>(args.levels);
    int32_t* pairs = reinterpret_cast<int32_t*>(memory);
    float* scales = memory + rays * (width / 2);
    const int32_t* weights = reinterpret_cast<const int32_t*>(args.body_int16);
    for (int64_t l = 0; l < 2 * args.blocks; l += 2) {
      const int32_t* w = weights + l * width * (width / 2);
      const float* b = args.body_bias + l * width;
      const float* s = args.body_scale + l * width;
      layer_int16<L, Store::relu>(cut, z, w, width, s, b, h, pairs, scales, levels);
      layer_int16<L, Store::add>(cut, h, w + width * (width / 2), width, s + width, b + width, z, pairs,
                                 scales, levels);
    }
  }
};

}  // namespace
}  // namespace nldf
