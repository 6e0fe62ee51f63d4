// The parts of an 8-bit linear layer that all instruction sets share: its inputs to integers, its sums to
// outputs, and sums of products of int16 where no instruction multiplies bytes.
//
// Four inputs that follow each other are a quad, which meets four weights of an output at once. Integers lie
// as [group of rows][quad][row of the group][4]. Unnamed namespace: see core/lanes.h.
#pragma once

#include "core/maths.h"
#include "core/transpose.h"
#include "ops/linear_kernels.h"

namespace nldf {
namespace {

template <class T, int Count>
struct VectorOf {
  typedef T Type __attribute__((vector_size(Count * sizeof(T))));
};

template <class Vector, class Number>
inline Vector load_lanes(const Number* from) {
  Vector x;
  memcpy(&x, from, sizeof(x));
  return x;
}

template <class L>
inline float sum_of(typename L::Vector x) {
  float sum = 0;
  for (int i = 0; i < L::lanes; ++i) sum += x[i];
  return sum;
}

// The layer norm of a row, into `out`: the mean first, then the deviation from it.
template <class L>
inline void linear_norm(const LinearArgs& args, const float* x, float* out) {
  using Vector = typename L::Vector;
  const int64_t count = args.dim_in;
  Vector sum{}, squares{};
  for (int64_t k = 0; k < count; k += L::lanes) sum += load_lanes<Vector>(x + k);
  const float mean = sum_of<L>(sum) / static_cast<float>(count);
  for (int64_t k = 0; k < count; k += L::lanes) {
    const Vector away = load_lanes<Vector>(x + k) - mean;
    squares += away * away;
  }
  const float variance = sum_of<L>(squares) / static_cast<float>(count);
  const float per_deviation = 1.0f / __builtin_sqrtf(variance + kLinearEpsilon);
  for (int64_t k = 0; k < count; k += L::lanes) {
    const Vector y = (load_lanes<Vector>(x + k) - mean) * per_deviation;
    const Vector made = y * load_lanes<Vector>(args.norm_weight + k) + load_lanes<Vector>(args.norm_bias + k);
    memcpy(out + k, &made, sizeof(made));
  }
}

// Vectors of int32 to narrower integers that hold the same numbers.
template <class Integer, int Count>
struct Narrow {
  using Wide = typename VectorOf<int32_t, Count>::Type;
  static void store(Wide x, Integer* to) {
    using Few = typename VectorOf<Integer, Count>::Type;
    const Few few = __builtin_convertvector(x, Few);
    memcpy(to, &few, sizeof(few));
  }
};
template <>
struct Narrow<int16_t, 4> {
  static void store(VectorOf<int32_t, 4>::Type x, int16_t* to) {
    const auto all = (VectorOf<int16_t, 8>::Type)x;
    const auto few = __builtin_shufflevector(all, all, 0, 2, 4, 6, 0, 2, 4, 6);
    memcpy(to, &few, 8);
  }
};
template <>
struct Narrow<int16_t, 8> {
  static void store(VectorOf<int32_t, 8>::Type x, int16_t* to) {
    const auto all = (VectorOf<int16_t, 16>::Type)x;
    const auto few = __builtin_shufflevector(all, all, 0, 2, 4, 6, 0, 2, 4, 6, 8, 10, 12, 14, 8, 10, 12, 14);
    memcpy(to, &few, 8);
    memcpy(to + 4, reinterpret_cast<const char*>(&few) + 16, 8);
  }
};

// A row to integers of type Integer, `Offset` added to each. A row that isn't finite has the scale NaN.
template <class L, class Integer, int Offset, int Group>
void linear_quantise(const LinearArgs& args, int64_t row, void* integers, float* scales, float* scratch) {
  using Vector = typename L::Vector;
  using Integers = typename VectorOf<int32_t, L::lanes>::Type;
  const int64_t count = args.dim_in;
  const float* x = args.x + row * count;
  if (args.norm_weight) {
    linear_norm<L>(args, x, scratch);
    x = scratch;
  }
  Vector largest{}, poison{};
  for (int64_t k = 0; k < count; k += L::lanes) {
    const Vector a = load_lanes<Vector>(x + k), size = a > -a ? a : -a;
    largest = size > largest ? size : largest;
    poison += a * 0.0f;
  }
  float most = 1e-12f;
  for (int i = 0; i < L::lanes; ++i) most = largest[i] > most ? largest[i] : most;
  scales[row] = most / kLinearLevels + sum_of<L>(poison);
  const float per_unit = kLinearLevels / most;
  Integer* const to = static_cast<Integer*>(integers) + (row / Group * count / 4 * Group + row % Group) * 4;
  for (int64_t k = 0; k < count; k += L::lanes) {
    const Vector shifted = load_lanes<Vector>(x + k) * per_unit + kRound;
    const Integers made = (Integers)shifted - (bit_cast<int32_t>(kRound) - Offset);
    Integer few[L::lanes];
    Narrow<Integer, L::lanes>::store(made, few);
    NLDF_UNROLL
    for (int q = 0; q < L::lanes / 4; ++q)
      memcpy(to + (k / 4 + q) * Group * 4, few + 4 * q, 4 * sizeof(Integer));
  }
}

// Sums of one row and Count outputs from `first` on, less `offsets`, to what the layer gives.
template <class L, int Count>
inline void linear_finish(const LinearArgs& args, const int32_t* sums, const int32_t* offsets, float scale,
                          int64_t row, int64_t first) {
  using Vector = typename L::Vector;
  using Integers = typename VectorOf<int32_t, L::lanes>::Type;
  float* const out = args.out + row * args.dim_out + first;
  NLDF_UNROLL
  for (int n = 0; n < Count; n += L::lanes) {
    const Integers sum = load_lanes<Integers>(sums + n) - load_lanes<Integers>(offsets + n);
    Vector made = __builtin_convertvector(sum, Vector) * scale;
    made = made * load_lanes<Vector>(args.scale + first + n) + load_lanes<Vector>(args.bias + first + n);
    if (args.residual) made += load_lanes<Vector>(args.residual + row * args.dim_out + first + n);
    memcpy(out + n, &made, sizeof(made));
  }
  if (args.gelu) {
    NLDF_LANES
    for (int n = 0; n < Count; ++n) out[n] = gelu(out[n]);
  }
}

// Products of int16 in vectors of `Bytes`. `Dot` gives dot(sum, x, w): to each int32 of sum adds two
// products; and load(from, a, b): two vectors of bytes, widened.
template <class L, class Dot>
struct PairProducts {
  static constexpr int bytes = L::lanes * 4;
  // Sums, two vectors of weights, the inputs of one row and a product are what 16 registers hold.
  static constexpr int rows = 6;            // a group
  static constexpr int vectors = 2;         // of sums, each of two numbers an output
  static constexpr int outputs = L::lanes;  // of these
  using Pairs = typename VectorOf<int16_t, 2 * L::lanes>::Type;
  using Sums = typename VectorOf<int32_t, L::lanes>::Type;
  using Quads = typename VectorOf<int64_t, L::lanes / 2>::Type;

  // Outputs [first, first + outputs) of the group that begins at `row`.
  static void block(const LinearArgs& args, const int16_t* integers, const float* scales, int64_t row,
                    int64_t first) {
    const int64_t quads = args.dim_in / 4;
    const int16_t* x = integers + row * args.dim_in;
    const int8_t* w =
        args.weights + first / kLinearPanel * kLinearPanel * args.dim_in + first % kLinearPanel * 4;
    Sums sum[rows][vectors] = {};
    for (int64_t k = 0; k < quads; ++k, x += rows * 4, w += kLinearPanel * 4) {
      Pairs b[vectors];
      Dot::load(w, b[0], b[1]);
      NLDF_UNROLL
      for (int r = 0; r < rows; ++r) {
        int64_t quad;
        memcpy(&quad, x + 4 * r, sizeof(quad));
        const Pairs a = (Pairs)(quad - Quads{});
        NLDF_UNROLL
        for (int v = 0; v < vectors; ++v) sum[r][v] = Dot::dot(sum[r][v], a, b[v]);
      }
    }
    const int32_t offsets[outputs] = {};
    // Stored as a whole, so that they stay in registers up to here.
    int32_t stored[rows][2 * outputs];
    NLDF_UNROLL
    for (int r = 0; r < rows; ++r) {
      NLDF_UNROLL
      for (int v = 0; v < vectors; ++v) memcpy(stored[r] + v * L::lanes, &sum[r][v], bytes);
    }
    for (int r = 0; r < rows && row + r < args.rows; ++r) {
      int32_t made[outputs];
      for (int n = 0; n < outputs; ++n) made[n] = stored[r][2 * n] + stored[r][2 * n + 1];
      linear_finish<L, outputs>(args, made, offsets, scales[row + r], row + r, first);
    }
  }

  static void multiply(const LinearArgs& args, const void* integers, const float* scales, int64_t first,
                       int64_t last) {
    for (int64_t row = 0; row < args.rows; row += rows)
      for (int64_t n = first; n < last; n += outputs)
        block(args, static_cast<const int16_t*>(integers), scales, row, n);
  }

  static constexpr LinearKernels kernels() {
    return {rows, sizeof(int16_t), linear_quantise<L, int16_t, 0, rows>, multiply};
  }
};

}  // namespace
}  // namespace nldf
