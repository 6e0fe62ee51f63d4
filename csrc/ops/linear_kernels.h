// What an instruction set offers to linear_cpu.cpp.
#pragma once

#include "ops/linear.h"

namespace nldf {

struct LinearKernels {
  int64_t group;  // rows whose integers lie together; there is room for whole groups
  int64_t bytes;  // of one integer
  // Integers of a row, and what one of them is worth; `scratch` holds K numbers.
  void (*quantise)(const LinearArgs& args, int64_t row, void* integers, float* scales, float* scratch);
  // Outputs [first, last) of all rows, whole groups of rows after each other; both are multiples of 32.
  void (*multiply)(const LinearArgs& args, const void* integers, const float* scales, int64_t first,
                   int64_t last);
};

extern const LinearKernels kLinearPortable;
extern const LinearKernels kLinearAvx2;
extern const LinearKernels kLinearAvx512;
extern const LinearKernels kLinearAmx;

}  // namespace nldf
