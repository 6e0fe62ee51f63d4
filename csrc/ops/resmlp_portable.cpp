// The residual MLP in vectors of 16 bytes, which every target has; in float64 too, for gradient checks.
#include "ops/resmlp_backward.h"
#include "ops/resmlp_integers.h"
#include "ops/resmlp_kernels.h"

namespace nldf {
namespace {

using Single = Lanes<float, 16, 4, 3>;
using Double = Lanes<double, 16, 4, 3>;
using Int16 = Int16Products<Lanes<float, 16, 4, 3>>;
using Int8 = Int8Products<Lanes<float, 16, 4, 3>>;

}  // namespace

const ResmlpKernels<float> kResmlpPortable = {
    {forward_scratch<Single, PlainBody<Single>>, forward_tile<Single, PlainBody<Single>>},
    {forward_scratch<Int16, IntegerBody<Int16>>, forward_tile<Int16, IntegerBody<Int16>>},
    {forward_scratch<Int8, IntegerBody<Int8>>, forward_tile<Int8, IntegerBody<Int8>>},
    {backward_scratch<Single>, backward_tile<Single>, panel_gradient<Single>}};
const ResmlpKernels<double> kResmlpPortableDouble = {
    {forward_scratch<Double, PlainBody<Double>>, forward_tile<Double, PlainBody<Double>>},
    {nullptr, nullptr},
    {nullptr, nullptr},
    {backward_scratch<Double>, backward_tile<Double>, panel_gradient<Double>}};

}  // namespace nldf
