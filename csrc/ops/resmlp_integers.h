// A tile of rays through the residual MLP with the body's products in integers, sums in int32.
//
// Only the operands of the body's matrix products are rounded (core/int16_layer.h, core/int8_layer.h);
// residuals, biases, head and tail stay in float32.
#pragma once

#include "core/integer_products.h"
#include "ops/resmlp_tile.h"

namespace nldf {
namespace {

// Those of P's products, in words of 32 bits.
template <class P>
inline const int32_t* integer_weights(const ResmlpArgs<float>& args) {
  return P::per == 2 ? reinterpret_cast<const int32_t*>(args.body_int16)
                     : reinterpret_cast<const int32_t*>(args.body_int8);
}

// The inputs of one layer of one group to integers.
template <class P>
struct QuantizeOp {
  const ResmlpArgs<float>& args;
  const float* x;
  int32_t* integers;
  RayScales scales;
  template <int V>
  void run() const {
    typename P::Vector largest[V];
    P::template quantize<V, false>(x, args.width, largest, static_cast<float>(args.levels), integers, scales);
  }
};
// A panel of its outputs from them.
template <class P, Store How>
struct IntegerOp {
  const int32_t* integers;
  RayScales scales;
  IntegerPanel to;
  int64_t width;
  float* y;
  template <int V>
  void run() const {
    for (int f = 0; f < kPanel; f += P::features)
      P::template multiply<V, How, false>(integers, scales, to.from(f), width / P::per, y + f * V * P::lanes);
  }
};

// The blocks: z += fc2(relu(fc1(z))).
template <class P>
struct IntegerBody {
  const ResmlpArgs<float>& args;
  static int64_t scratch(const ResmlpArgs<float>& args, int64_t rows) {
    return padded<P>(rows) * (args.width / P::per + 2);
  }
  void operator()(const Cut<P>& cut, int64_t rays, float* z, float* h, float* memory) const {
    int32_t* const integers = reinterpret_cast<int32_t*>(memory);
    float* const worth = memory + rays * (args.width / P::per);
    const RayScales scales{worth, worth + rays};
    for (int64_t l = 0; l < 2 * args.blocks; l += 2) {
      layer<Store::relu>(cut, l, z, h, integers, scales);
      layer<Store::add>(cut, l + 1, h, z, integers, scales);
    }
  }
  template <Store How>
  void layer(const Cut<P>& cut, int64_t l, const float* x, float* y, int32_t* integers,
             RayScales scales) const {
    const int64_t width = args.width, inputs = width / P::per;
    const auto of = [&](int64_t first) { return RayScales{scales.worth + first, scales.lowest + first}; };
    for (int64_t g = 0; g < cut.groups(); ++g) {
      const int64_t first = g * P::group;
      with_vectors<P>(cut.vectors(g),
                      QuantizeOp<P>{args, x + first * width, integers + first * inputs, of(first)});
    }
    const int32_t* const weights = integer_weights<P>(args) + l * width * inputs;
    for (int64_t n = 0; n < width; n += kPanel) {
      const int64_t at = l * width + n;
      const IntegerPanel to{weights + n * inputs, args.body_scale + at,
                            args.body_sums ? args.body_sums + at : nullptr, args.body_bias + at};
      for (int64_t g = 0; g < cut.groups(); ++g) {
        const int64_t first = g * P::group;
        const int vectors = cut.vectors(g);
        with_vectors<P>(vectors, IntegerOp<P, How>{integers + first * inputs, of(first), to, width,
                                                   y + first * width + n * vectors * P::lanes});
      }
    }
  }
};

}  // namespace
}  // namespace nldf
