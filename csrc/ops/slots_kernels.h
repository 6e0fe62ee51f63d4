// What an instruction set offers to slot attention.
#pragma once

#include "ops/slots.h"

namespace nldf {

struct SlotsKernels {
  int64_t group;                              // points that are treated together
  int64_t (*scratch)(const SlotsArgs& args);  // numbers
  void (*points)(const SlotsArgs& args, int64_t first, int64_t count, float* scratch);  // of one group
};

extern const SlotsKernels kSlotsPortable;
extern const SlotsKernels kSlotsAvx2;
extern const SlotsKernels kSlotsAvx512;

}  // namespace nldf
