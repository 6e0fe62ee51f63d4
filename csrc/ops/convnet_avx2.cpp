// Small convolutional networks in vectors of 32 bytes, compiled for AVX2 and FMA.
#include "ops/convnet_lanes.h"

namespace nldf {

const ConvnetKernels kConvnetAvx2 = Convnet<32>::kernels();

}  // namespace nldf
