// Small convolutional networks in vectors of 16 bytes, which every target has.
#include "ops/convnet_lanes.h"

namespace nldf {

const ConvnetKernels kConvnetPortable = Convnet<16>::kernels();

}  // namespace nldf
