// Linear layers of a tile of rays with their products in integers of 16 or of 8 bits, under the same names.
#pragma once

#include "core/int8_layer.h"

namespace nldf {
namespace {

// What an integer of each ray's inputs is worth, and what its integer 0 is (of 8 bits).
struct RayScales {
  float* worth;
  float* lowest;
};

// Output features of a layer, up to a panel of them.
struct IntegerPanel {
  const int32_t* weights;            // [words][16]
  const float *worth, *sums, *bias;  // sums: of 8 bits

  IntegerPanel from(int64_t f) const { return {weights + f, worth + f, sums ? sums + f : sums, bias + f}; }
};

// `Positive`: inputs are none below zero, and `largest` [V] holds each ray's largest; else it is found.

// Products of int16, of which an int32 holds two.
template <class Base>
struct Int16Products : Int16Lanes<Base> {
  using L = Int16Lanes<Base>;
  using Vector = typename L::Vector;
  using Narrow = Int16Products<Lanes<float, sizeof(Vector), 4, Base::vectors>>;  // for few outputs
  static constexpr int per = 2;

  template <int V, bool Positive>
  static void quantize(const float* x, int64_t features, Vector* largest, float levels, int32_t* to,
                       RayScales scales) {
    if (!Positive) find_largest<L, V>(x, features, largest);
    nldf::quantize<L, V>(x, features, largest, levels, to, scales.worth);
  }
  template <int V, Store How, bool Positive>
  static void multiply(const int32_t* x, RayScales scales, const IntegerPanel& to, int64_t words, float* y,
                       Vector* largest = nullptr) {
    multiply_int16<L, V, How>(x, scales.worth, to.weights, words, to.worth, to.bias, y, largest);
  }
};

// Products of 8 bits, of which an int32 holds four.
template <class Base>
struct Int8Products : Int8Lanes<Base> {
  using L = Int8Lanes<Base>;
  using Vector = typename L::Vector;
  using Narrow = Int8Products<Lanes<float, sizeof(Vector), 4, Base::vectors>>;  // for few outputs
  static constexpr int per = 4;

  template <int V, bool Positive>
  static void quantize(const float* x, int64_t features, Vector* largest, float, int32_t* to,
                       RayScales scales) {
    Vector* const lowest = reinterpret_cast<Vector*>(scales.lowest);
    if (!Positive) find_range<L, V>(x, features, lowest, largest);
    quantize_int8<L, V, Positive>(x, features, lowest, largest, to, scales.worth);
  }
  template <int V, Store How, bool Positive>
  static void multiply(const int32_t* x, RayScales scales, const IntegerPanel& to, int64_t words, float* y,
                       Vector* largest = nullptr) {
    multiply_int8<L, V, How, Positive>(x, scales.worth, scales.lowest, to.weights, words, to.worth, to.sums,
                                       to.bias, y, largest);
  }
};

}  // namespace
}  // namespace nldf
