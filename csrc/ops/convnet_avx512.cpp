// Small convolutional networks in vectors of 64 bytes, compiled for AVX-512 F, BW, DQ and VL.
#include "ops/convnet_lanes.h"

namespace nldf {

const ConvnetKernels kConvnetAvx512 = Convnet<64>::kernels();

}  // namespace nldf
