// Slot attention in vectors of 64 bytes, compiled for AVX-512 F, BW, DQ and VL.
#include "ops/slots_lanes.h"

namespace nldf {

const SlotsKernels kSlotsAvx512 = Slots<Lanes<float, 64, 8, 3>>::kernels();

}  // namespace nldf
