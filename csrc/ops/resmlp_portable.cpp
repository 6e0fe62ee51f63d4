// The residual MLP in vectors of 16 bytes, which every target has; in float64 too, for gradient checks.
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "ops/resmlp_backward.h"
#include "ops/resmlp_int16.h"
#include "ops/resmlp_kernels.h"

namespace nldf {
namespace {

using Single = Lanes<float, 16, 4, 3>;
using Double = Lanes<double, 16, 4, 3>;

struct Dot {
  typedef int32_t Integers __attribute__((vector_size(16)));
  static Integers dot(Integers sum, Integers x, Integers w) {
#ifdef __SSE2__
    return sum + (Integers)_mm_madd_epi16((__m128i)x, (__m128i)w);
#else
    return sum + (x << 16 >> 16) * (w << 16 >> 16) + (x >> 16) * (w >> 16);
#endif
  }
};
using Integer = Int16Lanes<Lanes<float, 16, 4, 3>, Dot>;

}  // namespace

const ResmlpKernels<float> kResmlpPortable = {
    {forward_scratch<Single, PlainBody<Single>>, forward_tile<Single, PlainBody<Single>>},
    {forward_scratch<Integer, Int16Body<Integer>>, forward_tile<Integer, Int16Body<Integer>>},
    {backward_scratch<Single>, backward_tile<Single>, panel_gradient<Single>}};
const ResmlpKernels<double> kResmlpPortableDouble = {
    {forward_scratch<Double, PlainBody<Double>>, forward_tile<Double, PlainBody<Double>>},
    {nullptr, nullptr},
    {backward_scratch<Double>, backward_tile<Double>, panel_gradient<Double>}};

}  // namespace nldf
