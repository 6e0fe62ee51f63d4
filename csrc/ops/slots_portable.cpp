// Slot attention in vectors of 16 bytes, which every target has.
#include "ops/slots_lanes.h"

namespace nldf {

const SlotsKernels kSlotsPortable = Slots<Lanes<float, 16, 4, 3>>::kernels();

}  // namespace nldf
