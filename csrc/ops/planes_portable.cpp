// The light field over planes in vectors of 16 bytes, which every target has; in float64 too, for checks.
#include "ops/lines_backward.h"

namespace nldf {
namespace {

using Single = Lanes<float, 16, 4, 3>;
using Double = Lanes<double, 16, 4, 3>;

}  // namespace

const PlanesKernels<float> kPlanesPortable = kernels_of<Single>();
const PlanesKernels<double> kPlanesPortableDouble = kernels_of<Double>();

}  // namespace nldf
