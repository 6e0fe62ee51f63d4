// Lookups in reference pictures in vectors: places a point a lane, features a channel a lane.
//
// Points come in blocks: first where a reference's camera sees all of a block, then their features one after
// the other. Neighbouring points, samples of a ray, are seen in neighbouring pixels, which are still in the
// cache then.
#pragma once

#include <cstring>

#include "core/triples.h"
#include "ops/references.h"

namespace nldf {
namespace {

constexpr int kReferencePoints = 64;  // of a block

// Where the points of a block are looked up in a map.
template <class T>
struct Lookups {
  int32_t x[kReferencePoints], y[kReferencePoints];  // the first pixel
  T right[kReferencePoints], low[kReferencePoints];  // the weights of the next column and row

  // From places [P, R, 2] of `points` points, `stride` numbers apart.
  template <class Args>
  void find(const Args& args, const T* places, int64_t stride, int points) {
    const int32_t width = static_cast<int32_t>(args.width), height = static_cast<int32_t>(args.height);
    if (args.nearest) {
      for (int i = 0; i < points; ++i) {
        x[i] = locate_pixel(places[i * stride], width);
        y[i] = locate_pixel(places[i * stride + 1], height);
      }
      return;
    }
    NLDF_LANES
    for (int i = 0; i < points; ++i) {
      locate_between(places[i * stride], width, x[i], right[i]);
      locate_between(places[i * stride + 1], height, y[i], low[i]);
    }
  }
};

// The four pixels around a place, from the first one on: the next column, the next row, both. Where there is
// no next one, it is the first one again.
template <class Args>
struct Steps {
  int64_t column, row;
  explicit Steps(const Args& args)
      : column(args.width > 1 ? args.channels : 0), row(args.height > 1 ? args.width * args.channels : 0) {}
};

// The four pixels' weights.
template <class T>
struct Weights {
  T upper_left, upper_right, lower_left, lower_right;
  Weights(const Lookups<T>& at, int i) {
    lower_right = at.right[i] * at.low[i];
    lower_left = at.low[i] - lower_right;
    upper_right = at.right[i] - lower_right;
    upper_left = (T(1) - at.low[i]) - upper_right;
  }
};

// Places of `points` points from `first` on, in reference r.
template <class T>
inline void find_places(const ReferencesArgs<T>& args, int64_t r, int64_t first, int points) {
  const T* const m = args.projections + 12 * r;
  const T* const x = args.points + 3 * first;
  const int64_t stride = 2 * args.references, at = first * stride + 2 * r;
  T* const places = args.places + at;
  NLDF_LANES
  for (int i = 0; i < points; ++i) {
    const Sight<T> seen = see_point(m, x[3 * i], x[3 * i + 1], x[3 * i + 2]);
    places[i * stride] = seen.x;
    places[i * stride + 1] = seen.y;
  }
  if (!args.offsets) return;
  const T* const offsets = args.offsets + at;
  NLDF_LANES
  for (int i = 0; i < points; ++i) {
    places[i * stride] += offsets[i * stride];
    places[i * stride + 1] += offsets[i * stride + 1];
  }
}

// Points begin ... end - 1 in every reference.
template <class T>
void references_lanes(const ReferencesArgs<T>& args, int64_t begin, int64_t end) {
  const Steps<ReferencesArgs<T>> step(args);
  const int64_t channels = args.channels, stride = args.references * channels;
  Lookups<T> at;
  for (int64_t first = begin; first < end; first += kReferencePoints) {
    const int points = static_cast<int>(end - first < kReferencePoints ? end - first : kReferencePoints);
    for (int64_t r = 0; r < args.references; ++r) {
      find_places(args, r, first, points);
      at.find(args, args.places + 2 * (first * args.references + r), 2 * args.references, points);
      const T* const map = args.maps + r * args.height * args.width * channels;
      T* out = args.features + first * stride + r * channels;
      for (int i = 0; i < points; ++i, out += stride) {
        const T* const upper = map + (at.y[i] * args.width + at.x[i]) * channels;
        if (args.nearest) {
          memcpy(out, upper, sizeof(T) * static_cast<size_t>(channels));
          continue;
        }
        const Weights<T> w(at, i);
        const T* const upper_next = upper + step.column;
        const T* const lower = upper + step.row;
        const T* const lower_next = lower + step.column;
        NLDF_LANES
        for (int64_t c = 0; c < channels; ++c)
          out[c] = w.upper_left * upper[c] + w.upper_right * upper_next[c] + w.lower_left * lower[c] +
                   w.lower_right * lower_next[c];
      }
    }
  }
}

// How the features of a block's points change with their places in reference r: v_x and v_y.
template <class L, class T = typename L::Scalar>
inline void find_slopes(const ReferencesBackwardArgs<T>& args, int64_t r, int64_t first, int points,
                        T v_x[kReferencePoints], T v_y[kReferencePoints]) {
  using A = Along<L>;
  using V = typename L::Vector;
  const Steps<ReferencesBackwardArgs<T>> step(args);
  const int64_t channels = args.channels, stride = args.references * channels;
  const int32_t width = static_cast<int32_t>(args.width), height = static_cast<int32_t>(args.height);
  const T* place = args.places + 2 * (first * args.references + r);
  Lookups<T> at;
  at.find(args, place, 2 * args.references, points);
  const T* const map = args.maps + r * args.height * args.width * channels;
  const T* v = args.v_features + first * stride + r * channels;
  for (int i = 0; i < points; ++i, v += stride, place += 2 * args.references) {
    const T* const upper = map + (at.y[i] * args.width + at.x[i]) * channels;
    const T* const upper_next = upper + step.column;
    const T* const lower = upper + step.row;
    const T* const lower_next = lower + step.column;
    // The gradient's products with the four pixels.
    V a{}, b{}, c{}, d{};
    int64_t k = 0;
    for (; k + A::n <= channels; k += A::n) {
      const V seen = A::load(v + k);
      a += seen * A::load(upper + k);
      b += seen * A::load(upper_next + k);
      c += seen * A::load(lower + k);
      d += seen * A::load(lower_next + k);
    }
    T rest[4] = {};
    for (; k < channels; ++k) {
      rest[0] += v[k] * upper[k];
      rest[1] += v[k] * upper_next[k];
      rest[2] += v[k] * lower[k];
      rest[3] += v[k] * lower_next[k];
    }
    a[0] += rest[0], b[0] += rest[1], c[0] += rest[2], d[0] += rest[3];
    const V across_upper = b - a, across_lower = d - c, down_left = c - a, down_right = d - b;
    const T slope_x = A::sum(across_upper + at.low[i] * (across_lower - across_upper));
    const T slope_y = A::sum(down_left + at.right[i] * (down_right - down_left));
    v_x[i] = place_counts(place[0], width) ? slope_x : T(0);
    v_y[i] = place_counts(place[1], height) ? slope_y : T(0);
  }
}

// Gradients of the points begin ... end - 1, and of their offsets.
template <class L, class T = typename L::Scalar>
void references_places_lanes(const ReferencesBackwardArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t stride = 2 * args.references;
  for (int64_t first = begin; first < end; first += kReferencePoints) {
    const int points = static_cast<int>(end - first < kReferencePoints ? end - first : kReferencePoints);
    const T* const x = args.points + 3 * first;
    T v_point[3][kReferencePoints] = {};
    for (int64_t r = 0; r < args.references; ++r) {
      T v_x[kReferencePoints] = {}, v_y[kReferencePoints] = {};
      if (!args.nearest) find_slopes<L>(args, r, first, points, v_x, v_y);
      const int64_t at = first * stride + 2 * r;
      for (int i = 0; args.v_places && i < points; ++i) {
        v_x[i] += args.v_places[at + i * stride];
        v_y[i] += args.v_places[at + i * stride + 1];
      }
      for (int i = 0; args.v_offsets && i < points; ++i) {
        args.v_offsets[at + i * stride] = v_x[i];
        args.v_offsets[at + i * stride + 1] = v_y[i];
      }
      if (!args.v_points) continue;
      const T* const m = args.projections + 12 * r;
      NLDF_LANES
      for (int i = 0; i < points; ++i) {
        const Sight<T> seen = see_point(m, x[3 * i], x[3 * i + 1], x[3 * i + 2]);
        see_point_backward(m, seen, v_x[i], v_y[i], v_point[0][i], v_point[1][i], v_point[2][i]);
      }
    }
    for (int i = 0; args.v_points && i < points; ++i)
      for (int c = 0; c < 3; ++c) args.v_points[3 * (first + i) + c] = v_point[c][i];
  }
}

// Adds v times the weight to a pixel's channels.
template <class T>
inline void add_row(T* to, const T* v, T weight, int64_t channels) {
  NLDF_LANES
  for (int64_t c = 0; c < channels; ++c) to[c] += weight * v[c];
}

// The gradient of the channels begin ... end - 1 of map r: all points, in their order.
template <class T>
void references_maps_lanes(const ReferencesBackwardArgs<T>& args, int64_t r, int64_t begin, int64_t end) {
  const Steps<ReferencesBackwardArgs<T>> step(args);
  const int64_t stride = args.references * args.channels, channels = end - begin;
  T* const map = args.v_maps + r * args.height * args.width * args.channels + begin;
  Lookups<T> at;
  for (int64_t first = 0; first < args.count; first += kReferencePoints) {
    const int64_t left = args.count - first;
    const int points = static_cast<int>(left < kReferencePoints ? left : kReferencePoints);
    at.find(args, args.places + 2 * (first * args.references + r), 2 * args.references, points);
    const T* v = args.v_features + first * stride + r * args.channels + begin;
    for (int i = 0; i < points; ++i, v += stride) {
      T* const upper = map + (at.y[i] * args.width + at.x[i]) * args.channels;
      if (args.nearest) {
        NLDF_LANES
        for (int64_t c = 0; c < channels; ++c) upper[c] += v[c];
        continue;
      }
      const Weights<T> w(at, i);
      add_row(upper, v, w.upper_left, channels);
      add_row(upper + step.column, v, w.upper_right, channels);
      add_row(upper + step.row, v, w.lower_left, channels);
      add_row(upper + step.row + step.column, v, w.lower_right, channels);
    }
  }
}

}  // namespace
}  // namespace nldf
