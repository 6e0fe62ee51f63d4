// A group of rays through planes, grids and networks; lanes are rays, as in core/lanes.h.
//
// Everything that the networks hold of a group fits the first cache; weights pass by once a group, from the
// second. Like the headers it builds on, this one is compiled by every instruction set with its own flags:
// all is in an unnamed namespace, or inlined.
#pragma once

#include "core/integer_products.h"
#include "core/maths.h"
#include "ops/planes_kernels.h"
#include "ops/resmlp_tile.h"

namespace nldf {
namespace {

// One layer of a group of V vectors. Outputs are computed up to whole blocks of four.
template <class L, int V, Store How>
inline void planes_layer(const typename L::Scalar* x, const typename L::Scalar* weights, int64_t inputs,
                         const typename L::Scalar* bias, typename L::Scalar* y, int64_t outputs) {
  using T = typename L::Scalar;
  using Narrow = Lanes<T, L::lanes* static_cast<int>(sizeof(T)), 4, L::vectors>;
  constexpr int stride = V * L::lanes;
  for (int64_t f = 0; f < outputs;) {
    const T* const from = weights + f / kPanel * kPanel * inputs + f % kPanel;
    if (L::features > 4 && outputs - f <= 4) {
      multiply<Narrow, V, How>(x, from, inputs, bias + f, y + f * stride);
      f += 4;
    } else {
      multiply<L, V, How>(x, from, inputs, bias + f, y + f * stride);
      f += L::features;
    }
  }
}

// Where the corners of the points' cells lie in a level's table, and how far the points are in the cells.
template <class T, int N>
struct PlanesCells {
  uint32_t index[4][N];
  T x[N], y[N];
};

template <class T, int N>
inline void find_cells(const T* x, const T* y, const GridLevel& level, PlanesCells<T, N>& cells) {
  const uint32_t stride = level.stride[1], mask = level.mask;
  const int32_t resolution = level.resolution;
  uint32_t column[N], row[N];
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    int32_t cell;
    grid_locate(x[i], resolution, cell, cells.x[i]);
    column[i] = static_cast<uint32_t>(cell);
    grid_locate(y[i], resolution, cell, cells.y[i]);
    row[i] = static_cast<uint32_t>(cell) * stride;
  }
  if (level.hashed) {
    NLDF_LANES
    for (int i = 0; i < N; ++i) {
      cells.index[0][i] = (column[i] ^ row[i]) & mask;
      cells.index[1][i] = ((column[i] + 1) ^ row[i]) & mask;
      cells.index[2][i] = (column[i] ^ (row[i] + stride)) & mask;
      cells.index[3][i] = ((column[i] + 1) ^ (row[i] + stride)) & mask;
    }
    return;
  }
  NLDF_LANES
  for (int i = 0; i < N; ++i) {
    cells.index[0][i] = column[i] + row[i];
    cells.index[1][i] = column[i] + row[i] + 1;
    cells.index[2][i] = column[i] + row[i] + stride;
    cells.index[3][i] = column[i] + row[i] + stride + 1;
  }
}

template <class T>
inline T between(T low, T high, T where) {
  return low + where * (high - low);
}

// Four features of N points, from feature `first` of each entry on: four points at a time, then turned
// around, for the network wants a feature's points together.
template <class T, int N>
inline void read_four(const T* table, int64_t features, const PlanesCells<T, N>& cells, T* out) {
  using Four = typename Lanes<T, 4 * static_cast<int>(sizeof(T)), 4, 3>::Vector;
  for (int i = 0; i < N; i += 4) {
    Four a[4], b[4];
    NLDF_UNROLL
    for (int j = 0; j < 4; ++j) {
      Four corner[4];
      NLDF_UNROLL
      for (int c = 0; c < 4; ++c)
        memcpy(&corner[c], table + static_cast<int64_t>(cells.index[c][i + j]) * features, sizeof(Four));
      const Four x = cells.x[i + j] - Four{}, y = cells.y[i + j] - Four{};
      const Four lower = corner[0] + x * (corner[1] - corner[0]);
      const Four upper = corner[2] + x * (corner[3] - corner[2]);
      a[j] = lower + y * (upper - lower);
    }
    NLDF_UNROLL
    for (int j = 0; j < 2; ++j) {
      b[2 * j] = Interleave<Four, 4>::low(a[j], a[j + 2]);
      b[2 * j + 1] = Interleave<Four, 4>::high(a[j], a[j + 2]);
    }
    NLDF_UNROLL
    for (int j = 0; j < 2; ++j) {
      a[2 * j] = Interleave<Four, 4>::low(b[j], b[j + 2]);
      a[2 * j + 1] = Interleave<Four, 4>::high(b[j], b[j + 2]);
    }
    NLDF_UNROLL
    for (int f = 0; f < 4; ++f) memcpy(out + f * N + i, &a[f], sizeof(Four));
  }
}

#ifdef __AVX512F__
// The same in a level that isn't hashed, of entries of four features: neighbours along x are one load.
// Vectors are of points i, i + 4, i + 8 and i + 12, for turning four of these around gives points in their
// order.
template <int N>
inline void read_neighbours(const float* table, int64_t stride, const PlanesCells<float, N>& cells,
                            float* out) {
  static_assert(N % 16 == 0, "vectors of 16 points");
  const auto pairs = [&](const float* from, int i) {
    const auto at = [&](int j) {
      return _mm512_castps256_ps512(_mm256_loadu_ps(from + 4ll * cells.index[0][j]));
    };
    const __m512d first = _mm512_castps_pd(at(i)), second = _mm512_castps_pd(at(i + 4));
    return _mm512_castpd_ps(_mm512_insertf64x4(first, _mm512_castpd512_pd256(second), 1));
  };
  const auto between_points = [](__m512 low, __m512 high, __m512 where) {
    return _mm512_fmadd_ps(where, _mm512_sub_ps(high, low), low);
  };
  for (int i = 0; i < N; i += 16, out += 16) {
    const __m512 x = _mm512_loadu_ps(cells.x + i), y = _mm512_loadu_ps(cells.y + i);
    __m512 made[4];
    const auto row = [&](const float* from, int q, __m512 where) {
      const __m512 a = pairs(from, i + q), b = pairs(from, i + q + 8);
      return between_points(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd), where);
    };
    const auto four = [&](int q, __m512 along, __m512 across) {
      made[q] = between_points(row(table, q, along), row(table + 4 * stride, q, along), across);
    };
    four(0, _mm512_permute_ps(x, 0x00), _mm512_permute_ps(y, 0x00));
    four(1, _mm512_permute_ps(x, 0x55), _mm512_permute_ps(y, 0x55));
    four(2, _mm512_permute_ps(x, 0xaa), _mm512_permute_ps(y, 0xaa));
    four(3, _mm512_permute_ps(x, 0xff), _mm512_permute_ps(y, 0xff));
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(made[0], made[1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpacklo_ps(made[2], made[3]));
    const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(made[0], made[1]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(made[2], made[3]));
    _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)));
    _mm512_storeu_ps(out + N, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    _mm512_storeu_ps(out + 2 * N, _mm512_castpd_ps(_mm512_unpacklo_pd(c, d)));
    _mm512_storeu_ps(out + 3 * N, _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
  }
}
#endif

template <class T, int N>
inline void read_one(const T* table, int64_t features, const PlanesCells<T, N>& cells, T* out) {
  for (int i = 0; i < N; ++i) {
    T corner[4];
    for (int c = 0; c < 4; ++c) corner[c] = table[static_cast<int64_t>(cells.index[c][i]) * features];
    out[i] = between(between(corner[0], corner[1], cells.x[i]), between(corner[2], corner[3], cells.x[i]),
                     cells.y[i]);
  }
}

// Features of N points [levels * features][N].
template <class T, int N>
inline void read_grid(const T* x, const T* y, const GridLevels& levels, int64_t count, const T* table,
                      int64_t features, T* out) {
  PlanesCells<T, N> cells;
  for (int64_t l = 0; l < count; ++l) {
    const GridLevel& level = levels.level[l];
    find_cells(x, y, level, cells);
    const T* const entries = table + level.offset * features;
    int64_t f = 0;
#ifdef __AVX512F__
    if constexpr (sizeof(T) == sizeof(float) && N % 16 == 0) {
      if (features == 4 && !level.hashed) {
        read_neighbours(entries, level.stride[1], cells, out);
        out += 4 * N;
        continue;
      }
    }
#endif
    // Four doubles would be wider than the portable vectors.
    if constexpr (sizeof(T) == sizeof(float))
      for (; f + 4 <= features; f += 4, out += 4 * N) read_four(entries + f, features, cells, out);
    for (; f < features; ++f, out += N) read_one(entries + f, features, cells, out);
  }
}

// The inputs of the widest layer.
template <class T>
inline int64_t planes_most_inputs(const PlanesNetwork<T>& net) {
  const int64_t most = net.inputs() > net.warp_inputs() ? net.inputs() : net.warp_inputs();
  return most > net.width ? most : net.width;
}

// The last of it holds words of integers, and behind them what an integer of each ray is worth and its
// lowest.
template <class L>
inline int64_t planes_scratch(const PlanesNetwork<typename L::Scalar>& net) {
  const int64_t most = planes_most_inputs(net), outputs = panels(net.warp_outputs()) + panels(net.outputs());
  return L::group * (most + 2 * net.width + kPanel * outputs + int16_pairs(most) + 2);
}

// The networks' layers in the order of use, of groups of V vectors.
template <class L, int V>
struct PlanesLayers {
  using T = typename L::Scalar;
  const T* weights;
  const T* biases;

  template <Store How, bool first = false>
  void run(const T* x, int64_t inputs, const T* bias, T* y, int64_t outputs) {
    planes_layer<L, V, How>(x, weights, inputs, bias, y, outputs);
    skip(inputs, outputs);
  }
  void skip(int64_t inputs, int64_t outputs) { weights += inputs * kPanel * panels(outputs); }
};

// The same by their integers, P::per of which lie in a word of 32 bits.
template <class P, int V>
struct PlanesIntegerLayers {
  const int32_t* weights;
  const float *worth, *sums, *biases;
  float levels;
  int32_t* words;                 // [ceil(inputs / per)][rays]
  RayScales scales;               // [rays]
  typename P::Vector largest[V];  // of the last hidden layer's outputs

  template <Store How, bool first = false>
  void run(const float* x, int64_t inputs, const float* bias, float* y, int64_t outputs) {
    const int64_t count = (inputs + P::per - 1) / P::per;
    P::template quantize<V, !first>(x, inputs, largest, levels, words, scales);
    typename P::Vector made[V] = {};
    typename P::Vector* const seen = How == Store::relu ? made : nullptr;
    const auto some = [&](auto products, int64_t f) {
      using Some = decltype(products);
      const IntegerPanel to{weights + f / kPanel * kPanel * count + f % kPanel, worth + f,
                            sums ? sums + f : sums, bias + f};
      Some::template multiply<V, How, !first>(words, scales, to, count, y + f * V * P::lanes, seen);
      return f + Some::features;
    };
    for (int64_t f = 0; f < outputs;)
      f = P::features > 4 && outputs - f <= 4 ? some(typename P::Narrow{}, f) : some(P{}, f);
    for (int v = 0; v < V; ++v) largest[v] = made[v];
    skip(inputs, outputs);
  }
  void skip(int64_t inputs, int64_t outputs) {
    const int64_t wide = kPanel * panels(outputs);
    weights += (inputs + P::per - 1) / P::per * wide, worth += wide, sums = sums ? sums + wide : sums;
  }
};

// Hidden layers, whose first one's bias is the frame's, and a tail, into `out`. a and b hold [width][rays].
template <class Layers, class T>
inline void run_network(const T* x, int64_t inputs, const T* frame_bias, int64_t width, int64_t hidden,
                        int64_t outputs, Layers& layers, T* a, T* b, T* out) {
  layers.template run<Store::relu, true>(x, inputs, frame_bias, a, width);
  for (int64_t l = 1; l < hidden; ++l) {
    layers.template run<Store::relu>(a, width, layers.biases, b, width);
    layers.biases += width;
    T* const made = b;
    b = a;
    a = made;
  }
  layers.template run<Store::plain>(a, width, layers.biases, out, outputs);
  layers.biases += kPanel * panels(outputs);
}

// Goes on behind a network.
template <class Layers>
inline void skip_network(int64_t inputs, int64_t width, int64_t hidden, int64_t outputs, Layers& layers) {
  layers.skip(inputs, width);
  for (int64_t l = 1; l < hidden; ++l) layers.skip(width, width);
  layers.skip(width, outputs);
  layers.biases += (hidden - 1) * width + kPanel * panels(outputs);
}

// Segments and opacity of n rays from the second network's outputs [3 M + 1][n], in rows of kPlanesGroup.
template <class T, int n>
inline void planes_colors(const PlanesNetwork<T>& net, const T* out, T* result) {
  const int64_t colors = 3 * net.planes;
  const T half = T(0.5) / static_cast<T>(net.planes);
  T* const opacity = result + colors * kPlanesGroup;
  NLDF_LANES
  for (int i = 0; i < n; ++i) opacity[i] = planes_opacity(net.opacity_slope, out[colors * n + i]);
  for (int64_t c = 0; c < colors; ++c) {
    NLDF_LANES
    for (int i = 0; i < n; ++i) result[c * kPlanesGroup + i] = (out[c * n + i] + half) * opacity[i];
  }
}

// A group through it all, its integers in lanes I; or through the warp net alone, where there is no `bias`.
template <class L, class I>
struct PlanesOp {
  using T = typename L::Scalar;
  const PlanesModel<T>& model;
  const PlanesRays<T>& rays;
  const T* warp_bias;
  const T* bias;
  T* result;
  T* scratch;

  template <int V>
  void run() const {
    const PlanesNetwork<T>& net = model.network;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (net.int8_weights) return by_integers<Int8Products<I>, V>(net.int8_weights);
      if (net.int16_weights) return by_integers<Int16Products<I>, V>(net.int16_weights);
    }
    through<V>(PlanesLayers<L, V>{net.weights, net.biases});
  }

  template <class P, int V>
  void by_integers(const void* weights) const {
    const PlanesNetwork<T>& net = model.network;
    T* const worth = scratch + planes_scratch<L>(net) - 2 * L::group;
    T* const words = worth - L::group * int16_pairs(planes_most_inputs(net));
    through<V>(PlanesIntegerLayers<P, V>{static_cast<const int32_t*>(weights),
                                         net.integer_scales,
                                         net.integer_sums,
                                         net.biases,
                                         static_cast<T>(net.int16_levels),
                                         reinterpret_cast<int32_t*>(words),
                                         {worth, worth + L::group},
                                         {}});
  }

  template <int V, class Layers>
  void through(Layers layers) const {
    constexpr int n = V * L::lanes;
    const PlanesNetwork<T>& net = model.network;
    T* const a = scratch;
    T* const b = a + net.width * n;
    T* const warp = b + net.width * n;
    T* const out = warp + kPanel * panels(net.warp_outputs()) * n;
    T* const x = out + kPanel * panels(net.outputs()) * n;
    T u[2][n];

    if (rays.warp) {
      for (int64_t c = 0; c < net.warp_outputs(); ++c)
        memcpy(warp + c * n, rays.warp + c * kPlanesGroup, sizeof(T) * n);
      skip_network(net.warp_inputs(), net.width, net.warp_hidden, net.warp_outputs(), layers);
    } else {
      const T middle = net.depths[net.planes];
      T* const place = x + net.warp_levels * net.features * n;
      for (int axis = 0; axis < 2; ++axis) {
        NLDF_LANES
        for (int i = 0; i < n; ++i) {
          u[axis][i] = rays.start[axis][i] + middle * rays.slope[axis][i];
          place[axis * n + i] = T(2) * u[axis][i] - T(1);
        }
      }
      read_grid<T, n>(u[0], u[1], model.warp_levels, net.warp_levels, net.warp_table, net.features, x);
      run_network(x, net.warp_inputs(), warp_bias, net.width, net.warp_hidden, net.warp_outputs(), layers, a,
                  b, warp);
    }
    if (!bias) {
      for (int64_t c = 0; c < net.warp_outputs(); ++c)
        memcpy(result + c * kPlanesGroup, warp + c * n, sizeof(T) * n);
      return;
    }

    const int64_t each = net.levels * net.features * n;
    for (int64_t p = 0; p < net.planes; ++p) {
      const T z = net.depths[p];
      for (int axis = 0; axis < 2; ++axis) {
        const T* const moved = warp + (2 * p + axis) * n;
        NLDF_LANES
        for (int i = 0; i < n; ++i)
          u[axis][i] = rays.start[axis][i] + z * rays.slope[axis][i] + net.warp_scale * moved[i];
      }
      const T* const table = reinterpret_cast<const T*>(net.tables[p]);
      read_grid<T, n>(u[0], u[1], model.levels, net.levels, table, net.features, x + p * each);
    }
    memcpy(x + net.planes * each, warp + 2 * net.planes * n, sizeof(T) * net.ambient * n);
    run_network(x, net.inputs(), bias, net.width, net.hidden, net.outputs(), layers, a, b, out);

    planes_colors<T, n>(net, out, result);
  }
};

template <class L, class I>
inline void planes_run(const PlanesModel<typename L::Scalar>& model,
                       const PlanesRays<typename L::Scalar>& rays, const typename L::Scalar* warp_bias,
                       const typename L::Scalar* bias, typename L::Scalar* out, typename L::Scalar* scratch) {
  static_assert(L::group <= kPlanesGroup && kPanel % L::features == 0, "a group must fit");
  with_vectors<L>((rays.rows + L::lanes - 1) / L::lanes,
                  PlanesOp<L, I>{model, rays, warp_bias, bias, out, scratch});
}

template <class L, class I>
inline void planes_warp_run(const PlanesModel<typename L::Scalar>& model,
                            const PlanesRays<typename L::Scalar>& rays, const typename L::Scalar* warp_bias,
                            typename L::Scalar* out, typename L::Scalar* scratch) {
  planes_run<L, I>(model, rays, warp_bias, nullptr, out, scratch);
}

}  // namespace
}  // namespace nldf
