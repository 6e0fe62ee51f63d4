// The order of packed weights on the CPU: panels of output features.
#pragma once

#include <cstdint>

#include "core/hd.h"

namespace nldf {

// Weights are packed in panels of this many output features: [ceil(out / 16)][in][16], zeros behind the
// last feature. The width of the trunk is a multiple of it.
constexpr int kPanel = 16;

NLDF_HD int64_t panels(int64_t features) {
  return (features + kPanel - 1) / kPanel;
}

// Where the weight of output `feature` and input `k` of `inputs` lies.
NLDF_HD int64_t packed_index(int64_t feature, int64_t k, int64_t inputs) {
  return ((feature / kPanel) * inputs + k) * kPanel + feature % kPanel;
}

// The same for int16 weights, of which two neighbouring inputs lie together: [out / 16][in / 2][16][2].
NLDF_HD int64_t packed_pair_index(int64_t feature, int64_t k, int64_t inputs) {
  return (((feature / kPanel) * (inputs / 2) + k / 2) * kPanel + feature % kPanel) * 2 + k % 2;
}

}  // namespace nldf
