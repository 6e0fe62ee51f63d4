// The light field over planes in vectors of 16 bytes, which every target has; in float64 too, for checks.
#include "ops/lines_backward.h"

namespace nldf {
namespace {

using Single = Lanes<float, 16, 4, 3>;
using Double = Lanes<double, 16, 4, 3>;

}  // namespace

const PlanesKernels<float> kPlanesPortable = {Single::group,
                                              planes_scratch<Single>,
                                              planes_run<Single, Single>,
                                              planes_warp_run<Single, Single>,
                                              planes_forward_run<Single>,
                                              Single::lanes,
                                              planes_backward_scratch<Single>,
                                              planes_backward_run<Single>};
const PlanesKernels<double> kPlanesPortableDouble = {Double::group,
                                                     planes_scratch<Double>,
                                                     planes_run<Double, Double>,
                                                     planes_warp_run<Double, Double>,
                                                     planes_forward_run<Double>,
                                                     Double::lanes,
                                                     planes_backward_scratch<Double>,
                                                     planes_backward_run<Double>};

}  // namespace nldf
