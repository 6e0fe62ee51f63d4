// What an instruction set offers to small convolutional networks.
#pragma once

#include "ops/convnet.h"

namespace nldf {

// Numbers that a block of rows of a convolution gathers: rows times the inputs of an output.
constexpr int64_t kConvnetRows = 12;

struct ConvnetKernels {
  // One step on one picture; `gathered` holds kConvnetRows times the most inputs of an output.
  void (*step)(const ConvnetStep& step, const float* picture, const float* weights, float* memory, float* out,
               float* gathered);
};

extern const ConvnetKernels kConvnetPortable;
extern const ConvnetKernels kConvnetAvx2;
extern const ConvnetKernels kConvnetAvx512;

}  // namespace nldf
