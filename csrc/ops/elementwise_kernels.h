// What an instruction set offers to the operations that hold no network: rays, beams, segments, landmarks,
// references, adam.
#pragma once

#include "ops/adam.h"
#include "ops/beams.h"
#include "ops/landmarks.h"
#include "ops/rays.h"
#include "ops/references.h"
#include "ops/segments.h"

namespace nldf {

// Each treats rays (entries) begin ... end - 1 in float32; float64 runs the headers' formulae one by one.
struct ElementwiseKernels {
  void (*rays)(const RaysArgs<float>& args, int64_t frame, int64_t begin, int64_t end);
  void (*rays_backward)(const RaysBackwardArgs<float>& args, int64_t frame, int64_t begin, int64_t end,
                        double sums[kRayGradients]);
  // `distances` [3 K] holds every coordinate's distance along its ray.
  void (*beams)(const BeamsArgs<float>& args, const float* distances, int64_t begin, int64_t end);
  void (*beams_half)(const BeamsArgs<float, Half>& args, const float* distances, int64_t begin, int64_t end);
  void (*beams_backward)(const BeamsBackwardArgs<float>& args, const float* distances, int64_t begin,
                         int64_t end);
  // `scratch` holds segments_scratch(S) numbers.
  void (*segments)(const SegmentsArgs<float>& args, int64_t begin, int64_t end, float* scratch);
  void (*segments_backward)(const SegmentsBackwardArgs<float>& args, int64_t begin, int64_t end,
                            float* scratch);
  // Points begin ... end - 1 of a frame; `scratch` holds landmarks_scratch(L, features) numbers. Backward,
  // they are a block, whose sums go to `partial` [10, L].
  void (*landmarks)(const LandmarksArgs<float>& args, int64_t frame, int64_t begin, int64_t end,
                    float* scratch);
  void (*landmarks_backward)(const LandmarksBackwardArgs<float>& args, int64_t frame, int64_t begin,
                             int64_t end, float* partial, float* scratch);
  // Points begin ... end - 1; back, for the points and their offsets, and for channels begin ... end - 1 of
  // map r.
  void (*references)(const ReferencesArgs<float>& args, int64_t begin, int64_t end);
  void (*references_places)(const ReferencesBackwardArgs<float>& args, int64_t begin, int64_t end);
  void (*references_maps)(const ReferencesBackwardArgs<float>& args, int64_t r, int64_t begin, int64_t end);
  void (*adam)(const AdamArgs<float>& args, int64_t begin, int64_t end);
};

// Rays whose exponentials are taken at once: as many as the first cache holds beside all else.
NLDF_HD int64_t segments_at_once(int64_t samples) {
  constexpr int64_t kSamples = 1024;
  return samples && samples < kSamples ? kSamples / samples : 1;
}
// Three rows of a ray's samples, each with room for a whole vector behind, and those rays' samples.
constexpr int64_t kSegmentsRoom = 32;
NLDF_HD int64_t segments_scratch(int64_t samples) {
  return 3 * (samples + kSegmentsRoom) + segments_at_once(samples) * samples + kSegmentsRoom;
}

// Landmarks with their sums, in whole vectors of at most 16, and of 16 points the gradients' parts and the
// rows.
NLDF_HD int64_t landmarks_scratch(int64_t count, int64_t features) {
  constexpr int64_t kMost = 16;
  const int64_t each = 3 + kLandmarkFactors + 1 + kLandmarkSums;
  return each * (count + kMost) + 3 * kMost * kMost + kMost * count * features;
}

extern const ElementwiseKernels kElementwisePortable;
extern const ElementwiseKernels kElementwiseAvx2;
extern const ElementwiseKernels kElementwiseAvx512;

// Those of cpu_isa().
const ElementwiseKernels& elementwise_kernels();

}  // namespace nldf
