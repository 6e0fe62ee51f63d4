// The residual MLP in vectors of 32 bytes, compiled for AVX2 and FMA: twelve sums, three vectors of
// rays and a weight fill the sixteen registers.
#include "resmlp_tile.h"

namespace nldf {

using Single = Lanes<float, 32, 4, 3>;

const ResmlpKernels<float> kResmlpAvx2 = {"avx2", forward_scratch<Single>, forward_tile<Single>};

}  // namespace nldf
