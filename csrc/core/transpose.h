// Between tiles, whose lanes are rays, and rows or panels, whose lanes are features.
#pragma once

#include "core/lanes.h"
#include "core/panels.h"

namespace nldf {
namespace {

// Interleaves the lower (upper) halves of two vectors.
template <class V, int Count>
struct Interleave;
template <class V>
struct Interleave<V, 2> {
  static V low(V a, V b) { return __builtin_shufflevector(a, b, 0, 2); }
  static V high(V a, V b) { return __builtin_shufflevector(a, b, 1, 3); }
};
template <class V>
struct Interleave<V, 4> {
  static V low(V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
  static V high(V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
};
template <class V>
struct Interleave<V, 8> {
  static V low(V a, V b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
  static V high(V a, V b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
};
template <class V>
struct Interleave<V, 16> {
  static V low(V a, V b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  }
  static V high(V a, V b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
};

// A square of lanes x lanes scalars from one place to another, with rows and columns exchanged. Each round
// interleaves the lower half of the vectors with the upper one.
template <class L>
inline void transpose(const typename L::Scalar* from, int64_t from_stride, typename L::Scalar* to,
                      int64_t to_stride) {
  using V = typename L::Vector;
  constexpr int n = L::lanes;
  V a[n], b[n];
  NLDF_UNROLL
  for (int i = 0; i < n; ++i) memcpy(&a[i], from + i * from_stride, sizeof(V));
  NLDF_UNROLL
  for (int round = 1; round < n; round *= 2) {
    NLDF_UNROLL
    for (int i = 0; i < n / 2; ++i) {
      b[2 * i] = Interleave<V, n>::low(a[i], a[i + n / 2]);
      b[2 * i + 1] = Interleave<V, n>::high(a[i], a[i + n / 2]);
    }
    NLDF_UNROLL
    for (int i = 0; i < n; ++i) a[i] = b[i];
  }
  NLDF_UNROLL
  for (int i = 0; i < n; ++i) memcpy(to + i * to_stride, &a[i], sizeof(V));
}

// Calls body(first ray of a vector of lanes, how many of its rays there are, place of feature 0 of these
// rays in a tile of `features`, stride between features) for each vector of rays.
template <class L, class Body>
inline void for_vectors(const Cut<L>& cut, int64_t rows, int64_t features, const Body& body) {
  for (int64_t g = 0; g < cut.groups(); ++g) {
    const int vectors = cut.vectors(g);
    for (int v = 0; v < vectors; ++v) {
      const int64_t first = g * L::group + v * L::lanes;
      const int64_t left = rows - first;
      body(first, static_cast<int>(left < L::lanes ? left : L::lanes), g * L::group * features + v * L::lanes,
           vectors * L::lanes);
    }
  }
}

// Rows [rows, features] to a tile; rays behind the last are zeros.
template <class L>
inline void to_tile(const Cut<L>& cut, const typename L::Scalar* rows, int64_t count, int64_t features,
                    typename L::Scalar* tile) {
  for_vectors(cut, count, features, [&](int64_t first, int known, int64_t place, int64_t stride) {
    int64_t k = 0;
    if (known == L::lanes)
      for (; k + L::lanes <= features; k += L::lanes)
        transpose<L>(rows + first * features + k, features, tile + place + k * stride, stride);
    for (; k < features; ++k)
      for (int r = 0; r < L::lanes; ++r)
        tile[place + k * stride + r] = r < known ? rows[(first + r) * features + k] : 0;
  });
}

// The first `features` of a tile of `held` features to rows.
template <class L>
inline void to_rows(const Cut<L>& cut, const typename L::Scalar* tile, int64_t held, int64_t count,
                    int64_t features, typename L::Scalar* rows) {
  for_vectors(cut, count, held, [&](int64_t first, int known, int64_t place, int64_t stride) {
    int64_t k = 0;
    if (known == L::lanes)
      for (; k + L::lanes <= features; k += L::lanes)
        transpose<L>(tile + place + k * stride, stride, rows + first * features + k, features);
    for (; k < features; ++k)
      for (int r = 0; r < known; ++r) rows[(first + r) * features + k] = tile[place + k * stride + r];
  });
}

// Where feature k of ray r lies in panels of `group` rays.
inline int64_t in_panels(int64_t r, int64_t k, int64_t group) {
  return (k / kPanel * group + r) * kPanel + k % kPanel;
}

// A tile to panels; the number of features is a multiple of 16.
template <class L>
inline void to_panels(const Cut<L>& cut, const typename L::Scalar* tile, int64_t count, int64_t features,
                      int64_t group, typename L::Scalar* panels) {
  for_vectors(cut, count, features, [&](int64_t first, int known, int64_t place, int64_t stride) {
    for (int64_t k = 0; k < features; k += L::lanes) {
      typename L::Scalar* to = panels + in_panels(first, k, group);
      const typename L::Scalar* from = tile + place + k * stride;
      if (known == L::lanes) {
        transpose<L>(from, stride, to, kPanel);
        continue;
      }
      for (int r = 0; r < known; ++r)
        for (int i = 0; i < L::lanes; ++i) to[r * kPanel + i] = from[i * stride + r];
    }
  });
}

// Zeroes of a tile what is not positive in panels: the gradient of a ReLU whose activations they hold.
template <class L>
inline void mask_from_panels(const Cut<L>& cut, const typename L::Scalar* panels, int64_t count,
                             int64_t features, int64_t group, typename L::Scalar* tile) {
  using V = typename L::Vector;
  for_vectors(cut, count, features, [&](int64_t first, int known, int64_t place, int64_t stride) {
    for (int64_t k = 0; k < features; k += L::lanes) {
      const typename L::Scalar* from = panels + in_panels(first, k, group);
      typename L::Scalar* to = tile + place + k * stride;
      if (known == L::lanes) {
        V square[L::lanes];
        transpose<L>(from, kPanel, reinterpret_cast<typename L::Scalar*>(square), L::lanes);
        for (int i = 0; i < L::lanes; ++i) {
          V* v = reinterpret_cast<V*>(to + i * stride);
          *v = square[i] > 0 ? *v : V{};
        }
        continue;
      }
      for (int i = 0; i < L::lanes; ++i)
        for (int r = 0; r < L::lanes; ++r)
          if (r >= known || !(from[r * kPanel + i] > 0)) to[i * stride + r] = 0;
    }
  });
}

}  // namespace
}  // namespace nldf
