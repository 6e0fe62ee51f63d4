// A linear layer of a tile of rays; for its layout see core/lanes.h, for that of the weights core/panels.h.
#pragma once

#include "core/lanes.h"
#include "core/panels.h"

namespace nldf {
namespace {

// Features f..f+N of V vectors of rays: bias + weights . x, stored as `How` says.
template <class L, int V, Store How>
inline void multiply(const typename L::Scalar* x, const typename L::Scalar* weights, int64_t inputs,
                     const typename L::Scalar* bias, typename L::Scalar* y) {
  using Vector = typename L::Vector;
  constexpr int N = L::features;
  Vector sum[N][V];
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) sum[f][v] = bias[f] - Vector{};
  }
  const Vector* in = reinterpret_cast<const Vector*>(x);
  for (int64_t k = 0; k < inputs; ++k, in += V, weights += kPanel) {
    Vector a[V];
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) a[v] = in[v];
    NLDF_UNROLL
    for (int f = 0; f < N; ++f) {
      const Vector w = weights[f] - Vector{};
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) sum[f][v] += a[v] * w;
    }
  }
  Vector* to = reinterpret_cast<Vector*>(y);
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      if (How == Store::relu) sum[f][v] = relu(sum[f][v]);
      to[f * V + v] = How == Store::add ? to[f * V + v] + sum[f][v] : sum[f][v];
    }
  }
}

// A group of V vectors of rays through a panel of 16 features.
template <class L, int V, Store How>
inline void panel(const typename L::Scalar* x, const typename L::Scalar* weights, int64_t inputs,
                  const typename L::Scalar* bias, typename L::Scalar* y) {
  for (int f = 0; f < kPanel; f += L::features)
    multiply<L, V, How>(x, weights + f, inputs, bias + f, y + f * V * L::lanes);
}

template <class L, Store How>
struct PanelOp {
  const typename L::Scalar *x, *weights;
  int64_t inputs;
  const typename L::Scalar* bias;
  typename L::Scalar* y;
  template <int V>
  void run() const {
    panel<L, V, How>(x, weights, inputs, bias, y);
  }
};

// One layer: [inputs] to [outputs] features of a tile; `outputs` is a multiple of 16. A panel's weights
// stay in the first cache while the tile passes by.
template <class L, Store How>
inline void layer(const Cut<L>& cut, const typename L::Scalar* x, const typename L::Scalar* weights,
                  int64_t inputs, const typename L::Scalar* bias, typename L::Scalar* y, int64_t outputs) {
  for (int64_t n = 0; n < outputs; n += kPanel) {
    for (int64_t g = 0; g < cut.groups(); ++g) {
      const int vectors = cut.vectors(g);
      with_vectors<L>(vectors,
                      PanelOp<L, How>{x + g * L::group * inputs, weights + n * inputs, inputs, bias + n,
                                      y + g * L::group * outputs + n * vectors * L::lanes});
    }
  }
}

}  // namespace
}  // namespace nldf
