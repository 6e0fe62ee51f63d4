// The light field over planes in vectors of 32 bytes, compiled for AVX2 and FMA.
#include "ops/lines_backward.h"

namespace nldf {
namespace {

using Single = Lanes<float, 32, 4, 3>;
using Integer = Lanes<float, 32, 2, 3>;

}  // namespace

const PlanesKernels<float> kPlanesAvx2 = kernels_of<Single, Integer>();

}  // namespace nldf
