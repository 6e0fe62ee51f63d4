// The residual MLP in vectors of 64 bytes, compiled for AVX-512 F, BW and VNNI: twenty-four sums, three
// vectors of rays and a weight of thirty-two registers.
#include "ops/resmlp_backward.h"
#include "ops/resmlp_integers.h"
#include "ops/resmlp_kernels.h"

namespace nldf {
namespace {

using Single = Lanes<float, 64, 8, 3>;
using Int16 = Int16Products<Lanes<float, 64, 8, 3>>;
using Int8 = Int8Products<Lanes<float, 64, 8, 3>>;

}  // namespace

const ResmlpKernels<float> kResmlpAvx512 = {
    {forward_scratch<Single, PlainBody<Single>>, forward_tile<Single, PlainBody<Single>>},
    {forward_scratch<Int16, IntegerBody<Int16>>, forward_tile<Int16, IntegerBody<Int16>>},
    {forward_scratch<Int8, IntegerBody<Int8>>, forward_tile<Int8, IntegerBody<Int8>>},
    {backward_scratch<Single>, backward_tile<Single>, panel_gradient<Single>}};

}  // namespace nldf
