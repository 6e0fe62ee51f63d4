// One tile of rays through the residual MLP on the CPU, for vectors of any size.
//
// Lanes are rays: a tile lies in memory as [group][feature][rays of a group], so a layer's output has the
// layout of the next one's input, a weight is a broadcast scalar, and nothing is shuffled between head and
// tail. A ray's sums run in one order whatever the tile, so results depend neither on tiles nor threads.
//
// Everything is in an unnamed namespace and takes nothing from the standard library: each instruction set
// compiles this file with its own flags, and the linker must never give one's code to another.
#pragma once

#include <cstring>

#include "resmlp.h"

namespace nldf {
namespace {

#define NLDF_UNROLL _Pragma("GCC unroll 16")

// Scalars T in vectors of `Bytes`, blocked in registers as Features x Vectors.
template <class T, int Bytes, int Features, int Vectors>
struct Lanes {
  using Scalar = T;
  typedef T Vector __attribute__((vector_size(Bytes)));
  static constexpr int lanes = Bytes / static_cast<int>(sizeof(T));
  static constexpr int features = Features;
  static constexpr int vectors = Vectors;
  static constexpr int group = lanes * vectors;  // rays
};

enum class Store { plain, relu, add };

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
      if (How == Store::relu) sum[f][v] = sum[f][v] > 0 ? sum[f][v] : Vector{};
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

// How a tile of `rows` rays is cut: full groups, and a last one of fewer vectors.
template <class L>
struct Cut {
  int64_t full;  // groups of L::vectors vectors
  int rest;      // vectors of the last group, 0 where there is none

  explicit Cut(int64_t rows) {
    const int64_t vectors = (rows + L::lanes - 1) / L::lanes;
    full = vectors / L::vectors;
    rest = static_cast<int>(vectors % L::vectors);
  }
  int64_t groups() const { return full + (rest != 0); }
  int vectors(int64_t group) const { return group < full ? L::vectors : rest; }
};

// Calls op<V>() with V = vectors, which is 1 .. L::vectors.
template <class L, class Op>
inline void with_vectors(int vectors, const Op& op) {
  static_assert(L::vectors == 3, "one case for each number of vectors");
  switch (vectors) {
    case 3:
      return op.template run<3>();
    case 2:
      return op.template run<2>();
    default:
      return op.template run<1>();
  }
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

// Rows [rows, features] of stride `stride` to a tile and back; rays behind the last are zeros.
template <class L>
inline void to_tile(const Cut<L>& cut, const typename L::Scalar* rows, int64_t count, int64_t features,
                    int64_t stride, typename L::Scalar* tile) {
  for (int64_t g = 0; g < cut.groups(); ++g) {
    const int rays = cut.vectors(g) * L::lanes;
    const int64_t first = g * L::group;
    typename L::Scalar* to = tile + first * features;
    const int known = static_cast<int>(count - first < rays ? count - first : rays);
    for (int64_t k = 0; k < features; ++k) {
      for (int r = 0; r < known; ++r) to[k * rays + r] = rows[(first + r) * stride + k];
      for (int r = known; r < rays; ++r) to[k * rays + r] = 0;
    }
  }
}

// The first `features` of a tile of `held` features to rows.
template <class L>
inline void to_rows(const Cut<L>& cut, const typename L::Scalar* tile, int64_t held, int64_t count,
                    int64_t features, int64_t stride, typename L::Scalar* rows) {
  for (int64_t g = 0; g < cut.groups(); ++g) {
    const int rays = cut.vectors(g) * L::lanes;
    const int64_t first = g * L::group;
    const typename L::Scalar* from = tile + first * held;
    const int known = static_cast<int>(count - first < rays ? count - first : rays);
    for (int r = 0; r < known; ++r)
      for (int64_t k = 0; k < features; ++k) rows[(first + r) * stride + k] = from[k * rays + r];
  }
}

// Rays up to whole vectors.
template <class L>
inline int64_t padded(int64_t rows) {
  return (rows + L::lanes - 1) / L::lanes * L::lanes;
}

// Scalars of scratch memory that forward_tile needs, a multiple of a cache line.
template <class L>
inline int64_t forward_scratch(const ResmlpArgs<typename L::Scalar>& args, int64_t rows) {
  const int64_t wide = kPanel * panels(args.out_dim);
  return padded<L>(rows) * (args.in_dim + 3 * args.width + wide) + wide;
}

template <class L>
inline void forward_tile(const ResmlpArgs<typename L::Scalar>& args, const ResmlpTile& tile,
                         typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  const Cut<L> cut(tile.rows);
  const int64_t width = args.width, rays = padded<L>(tile.rows);
  const int64_t wide = kPanel * panels(args.out_dim);
  T* const y = scratch;
  T* const z = y + rays * width;
  T* const h = z + rays * width;
  T* const out = h + rays * width;
  T* const x = out + rays * wide;
  T* const tail_bias = x + rays * args.in_dim;
  to_tile<L>(cut, args.x + tile.first * args.in_dim, tile.rows, args.in_dim, args.in_dim, x);
  layer<L, Store::relu>(cut, x, args.head, args.in_dim, args.frame_bias + tile.frame * width, y, width);
  if (args.blocks) memcpy(z, y, sizeof(T) * rays * width);
  for (int64_t l = 0; l < 2 * args.blocks; l += 2) {
    const T* w = args.body + l * width * width;
    const T* b = args.body_bias + l * width;
    layer<L, Store::relu>(cut, z, w, width, b, h, width);
    layer<L, Store::add>(cut, h, w + width * width, width, b + width, z, width);
  }
  if (args.blocks)
    for (int64_t i = 0; i < rays * width; ++i) y[i] += z[i];
  for (int64_t n = 0; n < wide; ++n) tail_bias[n] = n < args.out_dim ? args.tail_bias[n] : T(0);
  layer<L, Store::plain>(cut, y, args.tail, width, tail_bias, out, wide);
  to_rows<L>(cut, out, wide, tile.rows, args.out_dim, args.out_dim, args.out + tile.first * args.out_dim);
}

}  // namespace

// What an instruction set offers to resmlp_cpu.cpp.
template <class T>
struct ResmlpKernels {
  const char* name;
  int64_t (*forward_scratch)(const ResmlpArgs<T>& args, int64_t rows);
  void (*forward_tile)(const ResmlpArgs<T>& args, const ResmlpTile& tile, T* scratch);
};

extern const ResmlpKernels<float> kResmlpPortable;
extern const ResmlpKernels<double> kResmlpPortableDouble;
extern const ResmlpKernels<float> kResmlpAvx2;
extern const ResmlpKernels<float> kResmlpAvx512;

}  // namespace nldf
