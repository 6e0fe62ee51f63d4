// The residual MLP in vectors of 64 bytes, compiled for AVX-512 F, BW and VNNI: twenty-four sums, three
// vectors of rays and a weight of thirty-two registers.
#include <immintrin.h>

#include "ops/resmlp_backward.h"
#include "ops/resmlp_int16.h"
#include "ops/resmlp_kernels.h"

namespace nldf {
namespace {

using Single = Lanes<float, 64, 8, 3>;

struct Dot {
  typedef int32_t Integers __attribute__((vector_size(64)));
  static Integers dot(Integers sum, Integers x, Integers w) {
    return (Integers)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
  }
};
using Integer = Int16Lanes<Lanes<float, 64, 8, 3>, Dot>;

}  // namespace

const ResmlpKernels<float> kResmlpAvx512 = {
    {forward_scratch<Single, PlainBody<Single>>, forward_tile<Single, PlainBody<Single>>},
    {forward_scratch<Integer, Int16Body<Integer>>, forward_tile<Integer, Int16Body<Integer>>},
    {backward_scratch<Single>, backward_tile<Single>, panel_gradient<Single>}};

}  // namespace nldf
