// Landmark features in vectors of landmarks: landmarks.h's formulae, a landmark a lane, a point at a time.
//
// The last group of lanes reaches back into the one before it where L is no multiple of a vector: features
// are then written twice, and gradients leave out the lanes that were counted before.
#pragma once

#include "core/lanes.h"
#include "core/stream.h"
#include "ops/landmarks.h"

namespace nldf {
namespace {

// Points between two looks at a group's landmarks: rows of so many points are a whole number of cache lines.
constexpr int kLandmarkPoints = 16;

// What a thread works in, one after the other in its scratch memory.
template <class T, int N>
struct LandmarksWork {
  LandmarkLanes<T, N>* groups;
  T (*sums)[kLandmarkSums][N];  // of each group
  T (*parts)[3][N];             // of each point's gradient
  T* rows;                      // features of kLandmarkPoints points, on their way past the caches

  LandmarksWork(int64_t count, T* scratch) {
    groups = reinterpret_cast<LandmarkLanes<T, N>*>(scratch);
    sums = reinterpret_cast<T(*)[kLandmarkSums][N]>(groups + count);
    parts = reinterpret_cast<T(*)[3][N]>(sums + count);
    rows = reinterpret_cast<T*>(parts + kLandmarkPoints);
  }
};

// Where group `i` of N lanes begins, and how many of its lanes belong to the group before it.
template <int N>
inline int64_t landmark_group(int64_t i, int64_t count, int& skip) {
  const int64_t first = i * N + N <= count ? i * N : count - N;
  skip = static_cast<int>(i * N - first);
  return first;
}

// Whether any lane is within its reach, or not a number.
template <class T, int N>
inline bool any_within(const T q[N], const T reach[N]) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4 && N == 16)
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(q), _mm512_loadu_ps(reach), _CMP_NGT_UQ) != 0;
#endif
#ifdef __AVX__
  if constexpr (sizeof(T) == 4 && N == 8)
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(q), _mm256_loadu_ps(reach), _CMP_NGT_UQ)) != 0;
#endif
#ifdef __SSE__
  if constexpr (sizeof(T) == 4 && N == 4)
    return _mm_movemask_ps(_mm_cmpngt_ps(_mm_loadu_ps(q), _mm_loadu_ps(reach))) != 0;
#endif
  bool any = false;
  for (int i = 0; i < N; ++i) any |= !(q[i] > reach[i]);
  return any;
}

// `count` numbers, a multiple of N, past the caches; both places lie on a vector's border.
template <int N, class T>
inline void stream_all(const T* from, int64_t count, T* to) {
  if constexpr (N * sizeof(T) >= 16 && sizeof(T) == 4) {
    using Vector = typename Lanes<T, N* static_cast<int>(sizeof(T)), 8, 3>::Vector;
    for (int64_t i = 0; i < count; i += N) {
      Vector v;
      memcpy(&v, from + i, sizeof(v));
      stream_vector(to + i, v);
    }
  } else {
    memcpy(to, from, sizeof(T) * static_cast<size_t>(count));
  }
}

// A group's features of `points` points into rows of `width`.
template <class T, int N>
inline void encode_group(const LandmarksArgs<T>& args, const LandmarkLanes<T, N>& at, const T axis[3],
                         const T* x, int64_t points, int64_t width, T* out) {
  const int64_t stride = args.count, features = landmark_features(args);
  for (int64_t p = 0; p < points; ++p, x += 3, out += width) {
    T d[3][N], u[3][N], q[N], w[N], z[N];
    landmark_distances(at, x, d, u, q);
    if (!any_within<T, N>(q, at.reach)) {
      for (int64_t k = 0; k < features; ++k)
        for (int i = 0; i < N; ++i) out[k * stride + i] = 0;
      continue;
    }
    landmark_weights(at, axis, d, q, w, z);
    write_landmarks<T, N>(w, z, args.axis != nullptr, args.levels, stride, out);
  }
}

// Points begin ... end - 1 of a frame, in groups of N lanes; L is at least N.
template <class T, int N>
inline void encode_landmarks(const LandmarksArgs<T>& args, int64_t frame, int64_t begin, int64_t end,
                             T* scratch) {
  using Line = typename Lanes<T, 64, 8, 3>::Vector;
  const int64_t groups = (args.count + N - 1) / N, width = args.count * landmark_features(args);
  const LandmarksWork<T, N> work(groups, scratch);
  int skip;
  for (int64_t g = 0; g < groups; ++g)
    work.groups[g].load(args, frame, landmark_group<N>(g, args.count, skip));
  T axis[3];
  landmark_axis(args, frame, axis);
  const bool large = args.frames * args.per_frame * width * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  for (int64_t p = begin; p < end; p += kLandmarkPoints) {
    const int64_t points = end - p < kLandmarkPoints ? end - p : kLandmarkPoints;
    T* const out = args.features + (frame * args.per_frame + p) * width;
    const bool stream = large && points == kLandmarkPoints && can_stream<Line>(out);
    const T* const x = args.points + 3 * (frame * args.per_frame + p);
    for (int64_t g = 0; g < groups; ++g) {
      T* const to = (stream ? work.rows : out) + landmark_group<N>(g, args.count, skip);
      encode_group(args, work.groups[g], axis, x, points, width, to);
    }
    if (stream) stream_all<N>(work.rows, points * width, out);
  }
  finish_streams();
}

// Features of a group of N lanes at `points` points, back: into the group's sums and the points' parts.
template <class T, int N>
inline void backward_group(const LandmarksBackwardArgs<T>& args, const LandmarkLanes<T, N>& at,
                           const T axis[3], const T* x, int64_t points, int64_t width, const T* v,
                           T sums[kLandmarkSums][N], T (*parts)[3][N]) {
  const bool depth = args.axis != nullptr;
  for (int64_t p = 0; p < points; ++p, x += 3, v += width) {
    T d[3][N], u[3][N], q[N], w[N], z[N], v_w[N], v_z[N], v_d[3][N];
    landmark_distances(at, x, d, u, q);
    if (!any_within<T, N>(q, at.reach)) continue;
    landmark_weights(at, axis, d, q, w, z);
    landmark_slopes<T, N>(w, z, depth, args.levels, args.count, v, v_w, v_z);
    landmark_sums(at, axis, d, u, w, v_w, v_z, sums, v_d);
    if (!args.v_points) continue;
    for (int c = 0; c < 3; ++c) {
      NLDF_LANES
      for (int i = 0; i < N; ++i) parts[p][c][i] += v_d[c][i];
    }
  }
}

// Adds the lanes of each point's parts, which become zero.
template <class T, int N>
inline void sum_parts(T (*parts)[3][N], int64_t points, T* v_points) {
  for (int64_t p = 0; p < points; ++p) {
    for (int c = 0; c < 3; ++c) {
      T sum = 0;
#ifdef _OPENMP
#pragma omp simd reduction(+ : sum)
#endif
      for (int i = 0; i < N; ++i) sum += parts[p][c][i];
      v_points[3 * p + c] = sum;
      for (int i = 0; i < N; ++i) parts[p][c][i] = 0;
    }
  }
}

// Points begin ... end - 1 of a frame, which are a block: its sums into `partial` [10, L].
template <class T, int N>
inline void encode_landmarks_backward(const LandmarksBackwardArgs<T>& args, int64_t frame, int64_t begin,
                                      int64_t end, T* partial, T* scratch) {
  const int64_t groups = (args.count + N - 1) / N, width = args.count * landmark_features(args);
  const LandmarksWork<T, N> work(groups, scratch);
  int skip;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = landmark_group<N>(g, args.count, skip);
    work.groups[g].load(args, frame, first, skip);
  }
  memset(work.sums, 0, sizeof(*work.sums) * static_cast<size_t>(groups));
  memset(work.parts, 0, sizeof(*work.parts) * kLandmarkPoints);
  T axis[3];
  landmark_axis(args, frame, axis);
  for (int64_t p = begin; p < end; p += kLandmarkPoints) {
    const int64_t points = end - p < kLandmarkPoints ? end - p : kLandmarkPoints;
    const int64_t row = frame * args.per_frame + p;
    for (int64_t g = 0; g < groups; ++g) {
      const T* const v = args.v_features + row * width + landmark_group<N>(g, args.count, skip);
      backward_group(args, work.groups[g], axis, args.points + 3 * row, points, width, v, work.sums[g],
                     work.parts);
    }
    if (args.v_points) sum_parts<T, N>(work.parts, points, args.v_points + 3 * row);
  }
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = landmark_group<N>(g, args.count, skip);
    for (int k = 0; k < kLandmarkSums; ++k)
      for (int i = skip; i < N; ++i) partial[k * args.count + first + i] = work.sums[g][k][i];
  }
}

// One lane where there are fewer landmarks than a vector has.
template <class L>
void landmarks_lanes(const LandmarksArgs<typename L::Scalar>& args, int64_t frame, int64_t begin, int64_t end,
                     typename L::Scalar* scratch) {
  if (args.count < L::lanes)
    encode_landmarks<typename L::Scalar, 1>(args, frame, begin, end, scratch);
  else
    encode_landmarks<typename L::Scalar, L::lanes>(args, frame, begin, end, scratch);
}
template <class L>
void landmarks_backward_lanes(const LandmarksBackwardArgs<typename L::Scalar>& args, int64_t frame,
                              int64_t begin, int64_t end, typename L::Scalar* partial,
                              typename L::Scalar* scratch) {
  if (args.count < L::lanes)
    encode_landmarks_backward<typename L::Scalar, 1>(args, frame, begin, end, partial, scratch);
  else
    encode_landmarks_backward<typename L::Scalar, L::lanes>(args, frame, begin, end, partial, scratch);
}

}  // namespace
}  // namespace nldf
