#include "ops/matte.h"

namespace nldf {

template <class T>
void matte_cpu(const MatteArgs<T>& args, const Exec& exec) {
  const int64_t rays = args.rays;
  parallel_for(rays, kMattePiece, exec.threads, [&](int64_t begin, int64_t end) {
    T sums[3] = {};
    for (int64_t i = begin; i < end; ++i) {
      const MatteRay<T> ray(args, i);
      for (int c = 0; c < 3; ++c) args.error[3 * i + c] = ray.error[c];
      ray.add(args, sums);
    }
    for (int k = 0; k < 3; ++k) args.partial[begin / kMattePiece * 3 + k] = sums[k];
  });
  T sums[3] = {};
  for (int64_t p = 0; p < matte_pieces(rays); ++p)
    for (int k = 0; k < 3; ++k) sums[k] += args.partial[3 * p + k];
  matte_figures(args, sums, args.figures);
}

template <class T>
void matte_backward_cpu(const MatteArgs<T>& args, const Exec& exec) {
  const T v_total = args.v_total ? *args.v_total : T(0);
  parallel_for(args.rays, kMattePiece, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) MatteRay<T>(args, i).back(args, i, v_total);
  });
}

template void matte_cpu(const MatteArgs<float>&, const Exec&);
template void matte_cpu(const MatteArgs<double>&, const Exec&);
template void matte_backward_cpu(const MatteArgs<float>&, const Exec&);
template void matte_backward_cpu(const MatteArgs<double>&, const Exec&);

}  // namespace nldf
