// One tile of rays through the residual MLP on the CPU; for its layout see resmlp_lanes.h.
#pragma once

#include "resmlp_transpose.h"

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

// The blocks in the tile's own type: z += fc2(relu(fc1(z))).
template <class L>
struct PlainBody {
  using T = typename L::Scalar;
  const ResmlpArgs<T>& args;
  static int64_t scratch(const ResmlpArgs<T>&, int64_t) { return 0; }
  void operator()(const Cut<L>& cut, int64_t, T* z, T* h, T*) const {
    const int64_t width = args.width;
    for (int64_t l = 0; l < 2 * args.blocks; l += 2) {
      const T* w = args.body + l * width * width;
      const T* b = args.body_bias + l * width;
      layer<L, Store::relu>(cut, z, w, width, b, h, width);
      layer<L, Store::add>(cut, h, w + width * width, width, b + width, z, width);
    }
  }
};

// Scalars of scratch memory that forward_tile needs.
template <class L, class Body>
inline int64_t forward_scratch(const ResmlpArgs<typename L::Scalar>& args, int64_t rows) {
  const int64_t wide = kPanel * panels(args.out_dim);
  return padded<L>(rows) * (args.in_dim + 3 * args.width + wide) + Body::scratch(args, rows) + wide;
}

template <class L, class Body>
inline void forward_tile(const ResmlpArgs<typename L::Scalar>& args, const ResmlpTile& tile,
                         typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  const Cut<L> cut(tile.rows);
  const int64_t width = args.width, rays = padded<L>(tile.rows);
  const int64_t wide = kPanel * panels(args.out_dim);
  // All of these start at whole vectors, for their sizes are multiples of a vector of rays.
  T* const y = scratch;
  T* const z = y + rays * width;
  T* const h = z + rays * width;
  T* const out = h + rays * width;
  T* const x = out + rays * wide;
  T* const tail_bias = x + rays * args.in_dim;
  T* const more = tail_bias + wide;
  to_tile<L>(cut, args.x + tile.first * args.in_dim, tile.rows, args.in_dim, x);
  layer<L, Store::relu>(cut, x, args.head, args.in_dim, args.frame_bias + tile.frame * width, y, width);
  if (args.blocks) {
    memcpy(z, y, sizeof(T) * rays * width);
    Body{args}(cut, rays, z, h, more);
    for (int64_t i = 0; i < rays * width; ++i) y[i] += z[i];
  }
  for (int64_t n = 0; n < wide; ++n) tail_bias[n] = n < args.out_dim ? args.tail_bias[n] : T(0);
  layer<L, Store::plain>(cut, y, args.tail, width, tail_bias, out, wide);
  to_rows<L>(cut, out, wide, tile.rows, args.out_dim, args.out + tile.first * args.out_dim);
}

}  // namespace

}  // namespace nldf
