// The residual MLP in vectors of 32 bytes, compiled for AVX2 and FMA: twelve sums, three vectors of
// rays and a weight fill the sixteen registers.
#include <immintrin.h>

#include "ops/resmlp_backward.h"
#include "ops/resmlp_int16.h"
#include "ops/resmlp_kernels.h"

namespace nldf {
namespace {

using Single = Lanes<float, 32, 4, 3>;

struct Dot {
  typedef int32_t Integers __attribute__((vector_size(32)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return sum + (Integers)_mm256_madd_epi16((__m256i)x, (__m256i)w);
  }
};
using Integer = Int16Lanes<Lanes<float, 32, 2, 3>, Dot>;

}  // namespace

const ResmlpKernels<float> kResmlpAvx2 = {
    {forward_scratch<Single, PlainBody<Single>>, forward_tile<Single, PlainBody<Single>>},
    {forward_scratch<Integer, Int16Body<Integer>>, forward_tile<Integer, Int16Body<Integer>>},
    {backward_scratch<Single>, backward_tile<Single>, panel_gradient<Single>}};

}  // namespace nldf
