// The residual MLP in vectors of 16 bytes, which every target has; in float64 too, for gradient checks.
#include "resmlp_tile.h"

namespace nldf {

using Single = Lanes<float, 16, 4, 3>;
using Double = Lanes<double, 16, 4, 3>;

const ResmlpKernels<float> kResmlpPortable = {"portable", forward_scratch<Single>, forward_tile<Single>};
const ResmlpKernels<double> kResmlpPortableDouble = {"portable", forward_scratch<Double>,
                                                     forward_tile<Double>};

}  // namespace nldf
