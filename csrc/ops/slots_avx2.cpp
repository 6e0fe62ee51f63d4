// Slot attention in vectors of 32 bytes, compiled for AVX2 and FMA.
#include "ops/slots_lanes.h"

namespace nldf {

const SlotsKernels kSlotsAvx2 = Slots<Lanes<float, 32, 4, 3>>::kernels();

}  // namespace nldf
