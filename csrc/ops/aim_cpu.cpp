#include "ops/aim.h"

namespace nldf {

namespace {
constexpr int64_t kRays = 1024;  // in a piece of work
}

template <class T>
void aim_cpu(const AimArgs<T>& args, const Exec& exec) {
  parallel_for(args.frames * args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) Aimed<T>(args, i / args.rays, i).store(args, i);
  });
}

// A frame belongs to one thread: the order of its sum never changes.
template <class T>
void aim_backward_cpu(const AimArgs<T>& args, const Exec& exec) {
  parallel_for(args.frames, 1, exec.threads, [&](int64_t frame, int64_t) {
    T sums[6] = {};
    for (int64_t i = frame * args.rays; i < (frame + 1) * args.rays; ++i)
      Aimed<T>(args, frame, i).back(args.v_turned + 3 * i, sums);
    for (int k = 0; k < 6; ++k) args.v_turns[6 * frame + k] = sums[k];
  });
}

template <class T>
void aim_lines_cpu(const AimLinesArgs<T>& args, const Exec& exec) {
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      planes_line(args.origins + 3 * i, args.directions + 3 * i, args.box, args.lines + 4 * i,
                  args.lines + 4 * i + 2);
  });
}

template <class T>
void aim_lines_backward_cpu(const AimLinesArgs<T>& args, const Exec& exec) {
  parallel_for(args.rays, kRays, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) aim_line_back(args, i);
  });
}

template void aim_cpu(const AimArgs<float>&, const Exec&);
template void aim_cpu(const AimArgs<double>&, const Exec&);
template void aim_backward_cpu(const AimArgs<float>&, const Exec&);
template void aim_backward_cpu(const AimArgs<double>&, const Exec&);
template void aim_lines_cpu(const AimLinesArgs<float>&, const Exec&);
template void aim_lines_cpu(const AimLinesArgs<double>&, const Exec&);
template void aim_lines_backward_cpu(const AimLinesArgs<float>&, const Exec&);
template void aim_lines_backward_cpu(const AimLinesArgs<double>&, const Exec&);

}  // namespace nldf
