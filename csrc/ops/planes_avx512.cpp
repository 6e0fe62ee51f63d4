// The light field over planes in vectors of 64 bytes, compiled for AVX-512 F, BW, DQ and VL.
#include "ops/lines_backward.h"

namespace nldf {
namespace {

using Single = Lanes<float, 64, 8, 3>;

}  // namespace

const PlanesKernels<float> kPlanesAvx512 = kernels_of<Single>();

}  // namespace nldf
