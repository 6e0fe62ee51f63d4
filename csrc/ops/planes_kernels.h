// What an instruction set offers to the operations that evaluate a network over planes.
#pragma once

#include "ops/lines.h"

namespace nldf {

// A network, and what is worked out of it once a call.
template <class T>
struct PlanesModel {
  PlanesNetwork<T> network;
  GridLevels warp_levels;
  GridLevels levels;

  explicit PlanesModel(const PlanesNetwork<T>& given)
      : network(given),
        warp_levels(make_grid_levels(given.warp_resolutions, given.warp_offsets, given.warp_levels, 2)),
        levels(make_grid_levels(given.resolutions, given.offsets, given.levels, 2)) {}
};

// The most rays that any instruction set takes at once.
constexpr int kPlanesGroup = 48;

// Rays of one frame. Places behind the last ray must hold finite numbers.
template <class T>
struct PlanesRays {
  T start[2][kPlanesGroup];
  T slope[2][kPlanesGroup];
  int rows;
  const T* warp;  // [2 M + A][kPlanesGroup] the warp net's outputs where they are known, or null
};

// Where the gradients of a group of rays go; in the order of planes.h: those
// of weights lie as rows of outputs, [outputs][inputs], both filled up to multiples of 16, one layer behind
// the other.
template <class T>
struct PlanesGradients {
  // Of the rays' frame.
  const T* warp_bias;
  const T* bias;
  T* v_warp_bias;
  T* v_bias;
  // Of the part that the rays belong to.
  T* v_weights;
  T* v_biases;
  // The group's first rays'.
  const T* v_segments;
  const T* v_opacity;
  T* v_lines;
  T* warp_places;
  T* v_warp_features;
  T* places;
  T* v_features;
  const T* transposed;  // packed transposes of the weights, layer by layer in the same order
  int64_t lines;        // rows from one plane's places and features to the next one's
};

template <class T>
struct PlanesKernels {
  int group;                                            // rays that run best at once
  int64_t (*scratch)(const PlanesNetwork<T>& network);  // scalars
  // The segments' colours (3 M rows), then the opacity, into out [3 M + 1][kPlanesGroup].
  void (*run)(const PlanesModel<T>& model, const PlanesRays<T>& rays, const T* warp_bias, const T* bias,
              T* out, T* scratch);
  // The warp net's outputs alone, into out [2 M + A][kPlanesGroup].
  void (*run_warp)(const PlanesModel<T>& model, const PlanesRays<T>& rays, const T* warp_bias, T* out,
                   T* scratch);
  // As `run`, with lines_kept() scalars a ray, up to whole vectors, left for the way back.
  void (*forward)(const PlanesModel<T>& model, const PlanesRays<T>& rays, const T* warp_bias, const T* bias,
                  T* out, T* kept);
  int lanes;  // rays of a vector
  int64_t (*backward_scratch)(const PlanesNetwork<T>& network);
  void (*backward)(const PlanesModel<T>& model, const PlanesRays<T>& rays, const PlanesGradients<T>& to,
                   T* kept, T* scratch);
};

extern const PlanesKernels<float> kPlanesPortable;
extern const PlanesKernels<double> kPlanesPortableDouble;
extern const PlanesKernels<float> kPlanesAvx2;
extern const PlanesKernels<float> kPlanesAvx512;

// Those of cpu_isa(); float64 has the portable ones.
const PlanesKernels<float>& planes_kernels(float);
const PlanesKernels<double>& planes_kernels(double);

}  // namespace nldf
