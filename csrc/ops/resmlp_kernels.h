// What an instruction set offers to resmlp_cpu.cpp.
#pragma once

#include "ops/resmlp.h"

namespace nldf {

template <class T>
struct ResmlpKernels {
  struct Forward {
    int64_t (*scratch)(const ResmlpArgs<T>& args, int64_t rows);  // scalars
    void (*tile)(const ResmlpArgs<T>& args, const ResmlpTile& tile, T* scratch);
  };
  struct Backward {
    int64_t (*scratch)(const ResmlpBackwardArgs<T>& args, int64_t rows);
    // The tile's activations and gradients into the workspace of the group that starts at ray `first`.
    void (*tile)(const ResmlpBackwardArgs<T>& args, const ResmlpTile& tile, int64_t first, T* scratch);
    // The gradients of 16 output features of a layer, from a group's workspace.
    void (*weights)(const ResmlpPanelGradient<T>& args);
  };
  Forward plain;
  Forward int16;  // null for float64, and so the next
  Forward int8;
  Backward backward;
};

extern const ResmlpKernels<float> kResmlpPortable;
extern const ResmlpKernels<double> kResmlpPortableDouble;
extern const ResmlpKernels<float> kResmlpAvx2;
extern const ResmlpKernels<float> kResmlpAvx512;

}  // namespace nldf
