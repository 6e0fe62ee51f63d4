// The gradients of one tile of rays, and of one panel of weights; for the layout see core/lanes.h.
#pragma once

#include "ops/resmlp_tile.h"

namespace nldf {
namespace {

template <class T>
inline ResmlpWorkspace workspace_of(const ResmlpBackwardArgs<T>& args) {
  return {args.group, args.width, args.blocks, panels(args.in_dim), panels(args.out_dim)};
}

template <class L>
inline int64_t backward_scratch(const ResmlpBackwardArgs<typename L::Scalar>& args, int64_t rows) {
  const int64_t wide_in = kPanel * panels(args.in_dim), wide_out = kPanel * panels(args.out_dim);
  return padded<L>(rows) * (4 * args.width + wide_in + wide_out) + args.width + wide_in;
}

// v where the activation is positive: the gradient of a ReLU.
template <class T>
inline void mask(const T* activation, T* v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) v[i] = activation[i] > 0 ? v[i] : 0;
}

// Rows [rows, features] to panels, zeros behind the last feature.
template <class T>
inline void rows_to_panels(const T* rows, int64_t count, int64_t features, int64_t group, T* out) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t k = 0; k < kPanel * panels(features); ++k)
      out[in_panels(r, k, group)] = k < features ? rows[r * features + k] : 0;
}

template <class L>
inline void backward_tile(const ResmlpBackwardArgs<typename L::Scalar>& args, const ResmlpTile& tile,
                          int64_t group_first, typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  const Cut<L> cut(tile.rows);
  const int64_t width = args.width, rays = padded<L>(tile.rows), square = width * width;
  const int64_t size = rays * width, count = tile.rows, group = args.group;
  const int64_t wide_in = kPanel * panels(args.in_dim);
  const ResmlpWorkspace at = workspace_of(args);
  // A tile's place in any panel of the workspace.
  T* const work = args.workspace + (tile.first - group_first) * kPanel;
  T* const y = scratch;
  T* const z = y + size;
  T* const h = z + size;
  T* const u = h + size;
  T* const x = u + size;
  T* const v_out = x + rays * wide_in;
  T* const zeros = v_out + rays * kPanel * panels(args.out_dim);
  memset(zeros, 0, sizeof(T) * (width + wide_in));
  const T* rows_x = args.x + tile.first * args.in_dim;
  const T* rows_v = args.v_out + tile.first * args.out_dim;
  rows_to_panels(rows_x, count, args.in_dim, group, work + at.x());
  rows_to_panels(rows_v, count, args.out_dim, group, work + at.v_out());

  // Forward, once more.
  to_tile<L>(cut, rows_x, count, args.in_dim, x);
  layer<L, Store::relu>(cut, x, args.head, args.in_dim, args.frame_bias + tile.frame * width, y, width);
  memcpy(z, y, sizeof(T) * size);
  for (int64_t b = 0; b < args.blocks; ++b) {
    const T* w = args.body + 2 * b * square;
    const T* bias = args.body_bias + 2 * b * width;
    to_panels<L>(cut, z, count, width, group, work + at.input(b));
    layer<L, Store::relu>(cut, z, w, width, bias, h, width);
    to_panels<L>(cut, h, count, width, group, work + at.hidden(b));
    layer<L, Store::add>(cut, h, w + square, width, bias + width, z, width);
  }
  if (args.blocks)
    for (int64_t i = 0; i < size; ++i) z[i] += y[i];
  to_panels<L>(cut, z, count, width, group, work + at.sum());

  // Backward: u is the gradient of the tail's input, z that of each block's output in turn.
  to_tile<L>(cut, rows_v, count, args.out_dim, v_out);
  layer<L, Store::plain>(cut, v_out, args.tail_transposed, args.out_dim, zeros, z, width);
  memcpy(u, z, sizeof(T) * size);
  for (int64_t b = args.blocks - 1; b >= 0; --b) {
    const T* w = args.body_transposed + 2 * b * square;
    to_panels<L>(cut, z, count, width, group, work + at.v_output(b));
    layer<L, Store::plain>(cut, z, w + square, width, zeros, h, width);
    mask_from_panels<L>(cut, work + at.hidden(b), count, width, group, h);
    to_panels<L>(cut, h, count, width, group, work + at.v_hidden(b));
    layer<L, Store::add>(cut, h, w, width, zeros, z, width);
  }
  if (args.blocks)
    for (int64_t i = 0; i < size; ++i) z[i] += u[i];
  mask(y, z, size);
  to_panels<L>(cut, z, count, width, group, work + at.v_first());
  if (args.v_x) {
    layer<L, Store::plain>(cut, z, args.head_transposed, width, zeros, x, wide_in);
    to_rows<L>(cut, x, wide_in, count, args.in_dim, args.v_x + tile.first * args.in_dim);
  }
}

// V vectors of inputs, one after the other from input k on, by L::features outputs.
template <class L>
struct GradientOp {
  using T = typename L::Scalar;
  const ResmlpPanelGradient<T>& args;
  int f;
  int64_t k;
  template <int V>
  void run() const {
    using Vector = typename L::Vector;
    constexpr int N = L::features;
    Vector sum[N][V] = {};
    const T* x[V];
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) x[v] = args.x + in_panels(0, k + v * L::lanes, args.group);
    const T* v_y = args.v_y + f;
    for (int64_t r = 0; r < args.rows * kPanel; r += kPanel) {
      Vector a[V];
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) a[v] = *reinterpret_cast<const Vector*>(x[v] + r);
      NLDF_UNROLL
      for (int n = 0; n < N; ++n) {
        const Vector g = v_y[r + n] - Vector{};
        NLDF_UNROLL
        for (int v = 0; v < V; ++v) sum[n][v] += a[v] * g;
      }
    }
    for (int n = 0; n < N && f + n < args.outputs; ++n) {
      for (int v = 0; v < V; ++v) {
        const int64_t first = k + v * L::lanes;
        T* to = args.v_weights + (f + n) * args.inputs + first;
        for (int i = 0; i < L::lanes && first + i < args.inputs; ++i) to[i] += sum[n][v][i];
      }
    }
  }
};

template <class L>
inline void panel_gradient(const ResmlpPanelGradient<typename L::Scalar>& args) {
  const int64_t vectors = (args.inputs + L::lanes - 1) / L::lanes;
  for (int64_t c = 0; c < vectors; c += L::vectors) {
    const int some = static_cast<int>(vectors - c < L::vectors ? vectors - c : L::vectors);
    for (int f = 0; f < kPanel && f < args.outputs; f += L::features)
      with_vectors<L>(some, GradientOp<L>{args, f, c * L::lanes});
  }
  if (!args.v_bias) return;
  typename L::Scalar sum[kPanel] = {};
  for (int64_t r = 0; r < args.rows; ++r)
    for (int n = 0; n < kPanel; ++n) sum[n] += args.v_y[r * kPanel + n];
  for (int n = 0; n < args.outputs; ++n) args.v_bias[n] += sum[n];
}

}  // namespace
}  // namespace nldf
