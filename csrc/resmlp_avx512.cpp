// The residual MLP in vectors of 64 bytes, compiled for AVX-512 F, BW and VNNI: twenty-four sums, three
// vectors of rays and a weight of thirty-two registers.
#include "resmlp_tile.h"

namespace nldf {

using Single = Lanes<float, 64, 8, 3>;

const ResmlpKernels<float> kResmlpAvx512 = {"avx512", forward_scratch<Single>, forward_tile<Single>};

}  // namespace nldf
