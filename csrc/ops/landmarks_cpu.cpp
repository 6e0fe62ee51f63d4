#include <type_traits>

#include "core/scratch.h"
#include "ops/elementwise_kernels.h"
#include "ops/landmarks_lanes.h"

namespace nldf {

namespace {
constexpr int64_t kPoints = 256;  // in a piece of work

template <class Args>
void make_factors(const Args& args) {
  for (int64_t l = 0; l < args.count; ++l) landmark_factor(args, l);
}

// Gradients of the landmarks from the sums over blocks, added in double: there are many of them.
template <class T>
void finish_gradients(const LandmarksBackwardArgs<T>& args, int64_t blocks) {
  const auto sum_of = [&](int64_t frame, int64_t l, int k) {
    double sum = 0;
    for (int64_t b = frame * blocks; b < (frame + 1) * blocks; ++b)
      sum += static_cast<double>(args.partial[(b * kLandmarkSums + k) * args.count + l]);
    return sum;
  };
  for (int64_t l = 0; l < args.count; ++l) {
    double all[kLandmarkSums] = {};
    T sums[kLandmarkSums];
    for (int64_t frame = 0; frame < args.frames; ++frame) {
      for (int k = 0; k < kLandmarkSums; ++k) {
        const double sum = sum_of(frame, l, k);
        all[k] += sum;
        sums[k] = static_cast<T>(sum);
      }
      landmark_place_gradient(args, frame, l, sums);
    }
    for (int k = 0; k < kLandmarkSums; ++k) sums[k] = static_cast<T>(all[k]);
    landmark_shape_gradient(args, l, sums);
  }
}
}  // namespace

template <class T>
void landmarks_cpu(const LandmarksArgs<T>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  make_factors(args);
  const int64_t pieces = (args.per_frame + kPoints - 1) / kPoints;
  parallel_for(args.frames * pieces, 1, exec.threads, [&](int64_t piece, int64_t) {
    const int64_t frame = piece / pieces, begin = piece % pieces * kPoints;
    const int64_t end = std::min(args.per_frame, begin + kPoints);
    T* const work = scratch<T>(landmarks_scratch(args.count, landmark_features(args)));
    if constexpr (std::is_same_v<T, float>)
      isa.landmarks(args, frame, begin, end, work);
    else
      encode_landmarks<T, 1>(args, frame, begin, end, work);
  });
}

template <class T>
void landmarks_backward_cpu(const LandmarksBackwardArgs<T>& args, const Exec& exec) {
  [[maybe_unused]] const ElementwiseKernels& isa = elementwise_kernels();
  make_factors(args);
  const int64_t blocks = (args.per_frame + args.block - 1) / args.block;
  parallel_for(args.frames * blocks, 1, exec.threads, [&](int64_t piece, int64_t) {
    const int64_t frame = piece / blocks, begin = piece % blocks * args.block;
    const int64_t end = std::min(args.per_frame, begin + args.block);
    T* const partial = args.partial + piece * kLandmarkSums * args.count;
    T* const work = scratch<T>(landmarks_scratch(args.count, landmark_features(args)));
    if constexpr (std::is_same_v<T, float>)
      isa.landmarks_backward(args, frame, begin, end, partial, work);
    else
      encode_landmarks_backward<T, 1>(args, frame, begin, end, partial, work);
  });
  finish_gradients(args, blocks);
}

template void landmarks_cpu(const LandmarksArgs<float>&, const Exec&);
template void landmarks_cpu(const LandmarksArgs<double>&, const Exec&);
template void landmarks_backward_cpu(const LandmarksBackwardArgs<float>&, const Exec&);
template void landmarks_backward_cpu(const LandmarksBackwardArgs<double>&, const Exec&);

}  // namespace nldf
