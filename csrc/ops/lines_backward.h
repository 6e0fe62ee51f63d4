// The gradients of a group of lines through planes, grids and networks; for the layout see planes_group.h.
#pragma once

#include "ops/planes_group.h"

namespace nldf {
namespace {

// A layer of one of the networks: its activations, and where its parameters lie behind the first one's.
template <class T>
struct PlanesLayer {
  T* x;  // [inputs][n]
  T* y;  // [outputs][n]
  int64_t inputs, outputs;
  int64_t weights, transposed, v_weights;
  int64_t bias;  // -1 for the frame's
  bool last;     // of its network: a tail, without ReLU
};

// What the way back needs of a group of n rays: the places on the planes [M + 1][2][n], the middle one last,
// and all layers' activations.
template <class T>
struct PlanesMemory {
  T* u;
  PlanesLayer<T> layers[kPlanesLayers];
  int64_t warp_layers, all_layers;

  PlanesMemory(const PlanesNetwork<T>& net, int64_t n, T* memory)
      : u(memory), warp_layers(net.warp_hidden + 1), all_layers(warp_layers + net.hidden + 1) {
    PlanesLayer<T> at{};
    memory += 2 * (net.planes + 1) * n;
    for (int64_t l = 0; l < all_layers; ++l) {
      const bool second = l >= warp_layers, first = !l || l == warp_layers;
      at.inputs = !first ? net.width : second ? net.inputs() : net.warp_inputs();
      at.last = l + 1 == warp_layers || l + 1 == all_layers;
      at.outputs = !at.last ? net.width : second ? net.outputs() : net.warp_outputs();
      at.x = at.y;
      if (first) at.x = memory, memory += planes_wide(at.inputs) * n;
      at.y = memory;
      memory += planes_wide(at.outputs) * n;
      layers[l] = at;
      if (first) layers[l].bias = -1;
      const int64_t wide = planes_wide(at.outputs);
      at.weights += wide * at.inputs;
      at.transposed += planes_wide(at.inputs) * at.outputs;
      at.v_weights += wide * planes_wide(at.inputs);
      if (!first) at.bias += wide;
    }
  }
};

// [features][n] of V vectors of rays to rows [n][wide]; features up to whole panels must be readable.
template <class L>
inline void planes_rows(const typename L::Scalar* tile, int64_t wide, int vectors, typename L::Scalar* rows) {
  const int64_t n = vectors * L::lanes;
  for (int64_t k = 0; k < wide; k += L::lanes)
    for (int64_t r = 0; r < n; r += L::lanes) transpose<L>(tile + k * n + r, n, rows + r * wide + k, wide);
}

// Outputs f ... f + L::features - 1 by V vectors of inputs: v_weights += v_y x, over n rays.
template <class L, int V>
inline void planes_outer(const typename L::Scalar* v_y, const typename L::Scalar* rows, int64_t wide,
                         int64_t n, typename L::Scalar* v_weights) {
  using Vector = typename L::Vector;
  constexpr int N = L::features;
  Vector sum[N][V] = {};
  for (int64_t r = 0; r < n; ++r) {
    Vector a[V];
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) memcpy(&a[v], rows + r * wide + v * L::lanes, sizeof(Vector));
    NLDF_UNROLL
    for (int f = 0; f < N; ++f) {
      const Vector g = v_y[f * n + r] - Vector{};
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) sum[f][v] += a[v] * g;
    }
  }
  NLDF_UNROLL
  for (int f = 0; f < N; ++f) {
    NLDF_UNROLL
    for (int v = 0; v < V; ++v) {
      typename L::Scalar* const to = v_weights + f * wide + v * L::lanes;
      Vector held;
      memcpy(&held, to, sizeof(Vector));
      held += sum[f][v];
      memcpy(to, &held, sizeof(Vector));
    }
  }
}

// The gradients of a layer's weights and bias from v_y [outputs, up to whole panels][n].
template <class L, int V>
inline void planes_weight_gradient(const PlanesLayer<typename L::Scalar>& at, const typename L::Scalar* v_y,
                                   typename L::Scalar* rows, typename L::Scalar* v_layer,
                                   typename L::Scalar* v_bias) {
  using T = typename L::Scalar;
  constexpr int64_t n = V * L::lanes;
  const int64_t wide = planes_wide(at.inputs);
  planes_rows<L>(at.x, wide, V, rows);
  for (int64_t f = 0; f < planes_wide(at.outputs); f += L::features) {
    T* const v_weights = v_layer + f * wide;
    int64_t k = 0;
    for (; k + 3 * L::lanes <= wide; k += 3 * L::lanes)
      planes_outer<L, 3>(v_y + f * n, rows + k, wide, n, v_weights + k);
    for (; k + 2 * L::lanes <= wide; k += 2 * L::lanes)
      planes_outer<L, 2>(v_y + f * n, rows + k, wide, n, v_weights + k);
    for (; k < wide; k += L::lanes) planes_outer<L, 1>(v_y + f * n, rows + k, wide, n, v_weights + k);
  }
  for (int64_t f = 0; f < at.outputs; ++f) {
    typename L::Vector sum{};
    for (int v = 0; v < V; ++v) {
      typename L::Vector part;
      memcpy(&part, v_y + f * n + v * L::lanes, sizeof(part));
      sum += part;
    }
    T total = 0;
    for (int i = 0; i < L::lanes; ++i) total += sum[i];
    v_bias[f] += total;
  }
}

// The gradient of N points' coordinates [2][N] from those of the features of a grid, in rows.
template <class T, int N>
inline void grid_place_gradient(const T* x, const T* y, const GridLevels& levels, int64_t count,
                                const T* table, int64_t features, const T* v_rows, int64_t stride, int rows,
                                T* v_x, T* v_y) {
  PlanesCells<T, N> cells;
  for (int i = 0; i < N; ++i) v_x[i] = v_y[i] = 0;
  for (int64_t l = 0; l < count; ++l) {
    const GridLevel& level = levels.level[l];
    find_cells(x, y, level, cells);
    const T* const entries = table + level.offset * features;
    for (int i = 0; i < rows; ++i) {
      const T* const v = v_rows + i * stride + l * features;
      const T* corner[4];
      for (int c = 0; c < 4; ++c) corner[c] = entries + static_cast<int64_t>(cells.index[c][i]) * features;
      T by_x = 0, by_y = 0;
      int64_t f = 0;
      if constexpr (sizeof(T) == sizeof(float)) {
        using Four = typename Lanes<T, 4 * static_cast<int>(sizeof(T)), 4, 3>::Vector;
        Four sum_x{}, sum_y{};
        for (; f + 4 <= features; f += 4) {
          Four at[4], g;
          NLDF_UNROLL
          for (int c = 0; c < 4; ++c) memcpy(&at[c], corner[c] + f, sizeof(Four));
          memcpy(&g, v + f, sizeof(Four));
          const Four lower = at[1] - at[0], upper = at[3] - at[2];
          const Four left = at[2] - at[0], right = at[3] - at[1];
          sum_x += g * (lower + (cells.y[i] - Four{}) * (upper - lower));
          sum_y += g * (left + (cells.x[i] - Four{}) * (right - left));
        }
        by_x = (sum_x[0] + sum_x[1]) + (sum_x[2] + sum_x[3]);
        by_y = (sum_y[0] + sum_y[1]) + (sum_y[2] + sum_y[3]);
      }
      for (; f < features; ++f) {
        by_x += v[f] * between(corner[1][f] - corner[0][f], corner[3][f] - corner[2][f], cells.y[i]);
        by_y += v[f] * between(corner[2][f] - corner[0][f], corner[3][f] - corner[1][f], cells.x[i]);
      }
      v_x[i] += by_x * grid_slope(x[i], cells.x[i], level.resolution, false);
      v_y[i] += by_y * grid_slope(y[i], cells.y[i], level.resolution, false);
    }
  }
}

// `rows` rays of [features][n] to rows in memory.
template <class T>
inline void planes_store_rows(const T* tile, int64_t features, int64_t n, int rows, T* to) {
  for (int r = 0; r < rows; ++r)
    for (int64_t k = 0; k < features; ++k) to[r * features + k] = tile[k * n + r];
}

template <class T>
inline int64_t planes_widest(const PlanesNetwork<T>& net) {
  int64_t most = net.width;
  for (const int64_t size : {net.inputs(), net.warp_inputs(), net.outputs(), net.warp_outputs()})
    most = planes_wide(size) > most ? planes_wide(size) : most;
  return most;
}

// Three gradients or rows; a line's and a place's gradients; the zeros of no bias.
template <class L>
inline int64_t planes_backward_scratch(const PlanesNetwork<typename L::Scalar>& net) {
  return L::group * (3 * planes_widest(net) + 6) + planes_widest(net);
}

// A group's colours, with all that the way back needs in `kept`, lines_kept() scalars a ray.
template <class L>
struct PlanesForwardOp {
  using T = typename L::Scalar;
  const PlanesModel<T>& model;
  const PlanesRays<T>& rays;
  const T* warp_bias;
  const T* bias;
  T* result;
  T* kept;

  template <int n>
  static void fill_up(T* tile, int64_t features) {
    memset(tile + features * n, 0, sizeof(T) * static_cast<size_t>((planes_wide(features) - features) * n));
  }

  template <int V>
  void layers(const PlanesLayer<T>* from, int64_t count, const T* frame_bias) const {
    for (const PlanesLayer<T>* at = from; at < from + count; ++at) {
      const T* const weights = model.network.weights + at->weights;
      const T* const own = at->bias < 0 ? frame_bias : model.network.biases + at->bias;
      if (at->last)
        planes_layer<L, V, Store::plain>(at->x, weights, at->inputs, own, at->y, at->outputs);
      else
        planes_layer<L, V, Store::relu>(at->x, weights, at->inputs, own, at->y, at->outputs);
    }
  }

  template <int V>
  void run() const {
    constexpr int n = V * L::lanes;
    const PlanesNetwork<T>& net = model.network;
    const PlanesMemory<T> held(net, n, kept);
    const PlanesLayer<T>*const warp_net = held.layers, *const second = held.layers + held.warp_layers;
    const T* const warp = warp_net[held.warp_layers - 1].y;
    const int64_t planes = net.planes, features = net.features;
    T *const seen = warp_net->x, *const x = second->x;
    // Behind the last feature: the way back reads whole panels, and no NaN may come of it.
    for (const PlanesLayer<T>* at : {warp_net, second}) fill_up<n>(at->x, at->inputs);
    for (const int64_t tail : {held.warp_layers - 1, held.all_layers - 1})
      fill_up<n>(held.layers[tail].y, held.layers[tail].outputs);

    const T middle = net.depths[planes];
    T* const u_middle = held.u + 2 * planes * n;
    T* const place = seen + net.warp_levels * features * n;
    for (int axis = 0; axis < 2; ++axis) {
      NLDF_LANES
      for (int i = 0; i < n; ++i) {
        u_middle[axis * n + i] = rays.start[axis][i] + middle * rays.slope[axis][i];
        place[axis * n + i] = T(2) * u_middle[axis * n + i] - T(1);
      }
    }
    read_grid<T, n>(u_middle, u_middle + n, model.warp_levels, net.warp_levels, net.warp_table, features,
                    seen);
    layers<V>(warp_net, held.warp_layers, warp_bias);
    const int64_t each = net.levels * features;
    for (int64_t p = 0; p < planes; ++p) {
      const T z = net.depths[p];
      T* const here = held.u + 2 * p * n;
      for (int axis = 0; axis < 2; ++axis) {
        const T* const moved = warp + (2 * p + axis) * n;
        NLDF_LANES
        for (int i = 0; i < n; ++i)
          here[axis * n + i] = rays.start[axis][i] + z * rays.slope[axis][i] + net.warp_scale * moved[i];
      }
      read_grid<T, n>(here, here + n, model.levels, net.levels, reinterpret_cast<const T*>(net.tables[p]),
                      features, x + p * each * n);
    }
    memcpy(x + planes * each * n, warp + 2 * planes * n, sizeof(T) * static_cast<size_t>(net.ambient * n));
    layers<V>(second, net.hidden + 1, bias);
    planes_colors<T, n>(net, second[net.hidden].y, result);
  }
};

template <class L>
inline void planes_forward_run(const PlanesModel<typename L::Scalar>& model,
                               const PlanesRays<typename L::Scalar>& rays,
                               const typename L::Scalar* warp_bias, const typename L::Scalar* bias,
                               typename L::Scalar* out, typename L::Scalar* kept) {
  with_vectors<L>((rays.rows + L::lanes - 1) / L::lanes,
                  PlanesForwardOp<L>{model, rays, warp_bias, bias, out, kept});
}

template <class L>
struct PlanesBackwardOp {
  using T = typename L::Scalar;
  const PlanesModel<T>& model;
  const PlanesRays<T>& rays;
  const PlanesGradients<T>& to;
  T* kept;
  T* scratch;

  // A network on the way back, from v_y of its outputs to v_x of its inputs, which is returned.
  template <int V>
  T* back(const PlanesLayer<T>* layers, int64_t count, T* v_y, T* v_x, T* rows, const T* zeros,
          T* v_frame_bias) const {
    constexpr int64_t n = V * L::lanes;
    for (int64_t l = count - 1; l >= 0; --l) {
      const PlanesLayer<T>& at = layers[l];
      for (int64_t i = at.outputs * n; i < planes_wide(at.outputs) * n; ++i) v_y[i] = 0;
      planes_weight_gradient<L, V>(at, v_y, rows, to.v_weights + at.v_weights,
                                   at.bias < 0 ? v_frame_bias : to.v_biases + at.bias);
      planes_layer<L, V, Store::plain>(v_y, to.transposed + at.transposed, at.outputs, zeros, v_x, at.inputs);
      if (l) {
        NLDF_LANES
        for (int64_t i = 0; i < at.inputs * n; ++i) v_x[i] = at.x[i] > 0 ? v_x[i] : T(0);
      }
      T* const made = v_x;
      v_x = v_y;
      v_y = made;
    }
    return v_y;
  }

  template <int V>
  void run() const {
    constexpr int n = V * L::lanes;
    const PlanesNetwork<T>& net = model.network;
    const PlanesMemory<T> held(net, n, kept);
    const PlanesLayer<T>*const warp_net = held.layers, *const second = held.layers + held.warp_layers;
    const T* const out = second[net.hidden].y;
    const int64_t planes = net.planes, features = net.features, each = net.levels * features;
    const int64_t most = planes_widest(net);
    T* const v_a = scratch;
    T* const v_b = v_a + most * n;
    T* const rows = v_b + most * n;
    T* const v_start = rows + most * n;  // [4][n]: start, slope
    T* const v_u = v_start + 4 * n;
    T* const zeros = v_u + 2 * n;
    memset(zeros, 0, sizeof(T) * static_cast<size_t>(most));

    // From the colours back to the second network's inputs.
    const int64_t colors = 3 * planes;
    const T half = T(0.5) / static_cast<T>(planes);
    for (int i = 0; i < n; ++i) {
      const bool known = i < rays.rows;
      const T opacity = T(1) / (T(1) + exponential(-net.opacity_slope * out[colors * n + i]));
      T v_opacity = known ? to.v_opacity[i] : T(0);
      for (int64_t c = 0; c < colors; ++c) {
        const T v = known ? to.v_segments[i * colors + c] : T(0);
        v_opacity += v * (out[c * n + i] + half);
        v_a[c * n + i] = v * opacity;
      }
      v_a[colors * n + i] = v_opacity * net.opacity_slope * opacity * (T(1) - opacity);
    }
    T* const v_x = back<V>(second, net.hidden + 1, v_a, v_b, rows, zeros, to.v_bias);

    // Through the planes' grids to the warp net's outputs, into the other of the two.
    T* const v_warp = v_x == v_a ? v_b : v_a;
    for (int i = 0; i < 4 * n; ++i) v_start[i] = 0;
    for (int64_t p = 0; p < planes; ++p) {
      T* const v_rows = to.v_features + p * to.lines * each;
      const T* const here = held.u + 2 * p * n;
      planes_store_rows<T>(v_x + p * each * n, each, n, rays.rows, v_rows);
      planes_store_rows<T>(here, 2, n, rays.rows, to.places + 2 * p * to.lines);
      grid_place_gradient<T, n>(here, here + n, model.levels, net.levels,
                                reinterpret_cast<const T*>(net.tables[p]), features, v_rows, each, rays.rows,
                                v_u, v_u + n);
      add_place<n>(v_u, net.depths[p], v_start);
      for (int i = 0; i < 2 * n; ++i) v_warp[2 * p * n + i] = net.warp_scale * v_u[i];
    }
    memcpy(v_warp + 2 * planes * n, v_x + planes * each * n,
           sizeof(T) * static_cast<size_t>(net.ambient * n));
    const T* const v_seen = back<V>(warp_net, held.warp_layers, v_warp, v_x, rows, zeros, to.v_warp_bias);

    const T* const u_middle = held.u + 2 * planes * n;
    const int64_t seen_features = net.warp_levels * features;
    planes_store_rows<T>(v_seen, seen_features, n, rays.rows, to.v_warp_features);
    planes_store_rows<T>(u_middle, 2, n, rays.rows, to.warp_places);
    grid_place_gradient<T, n>(u_middle, u_middle + n, model.warp_levels, net.warp_levels, net.warp_table,
                              features, to.v_warp_features, seen_features, rays.rows, v_u, v_u + n);
    for (int i = 0; i < 2 * n; ++i) v_u[i] += T(2) * v_seen[seen_features * n + i];
    add_place<n>(v_u, net.depths[planes], v_start);
    planes_store_rows<T>(v_start, 4, n, rays.rows, to.v_lines);
  }

  // The gradient of a line's place on the plane z, as its start's and slope's, which lie behind each other.
  template <int N>
  static void add_place(const T* v_u, T z, T* v_line) {
    NLDF_LANES
    for (int i = 0; i < 2 * N; ++i) {
      v_line[i] += v_u[i];
      v_line[2 * N + i] += z * v_u[i];
    }
  }
};

template <class L>
inline void planes_backward_run(const PlanesModel<typename L::Scalar>& model,
                                const PlanesRays<typename L::Scalar>& rays,
                                const PlanesGradients<typename L::Scalar>& to, typename L::Scalar* kept,
                                typename L::Scalar* scratch) {
  with_vectors<L>((rays.rows + L::lanes - 1) / L::lanes, PlanesBackwardOp<L>{model, rays, to, kept, scratch});
}

// An instruction set's kernels in lanes L, products of integers in lanes I.
template <class L, class I = L>
constexpr PlanesKernels<typename L::Scalar> kernels_of() {
  return {L::group,
          planes_scratch<L>,
          planes_run<L, I>,
          planes_warp_run<L, I>,
          planes_forward_run<L>,
          L::lanes,
          planes_backward_scratch<L>,
          planes_backward_run<L>};
}

}  // namespace
}  // namespace nldf
