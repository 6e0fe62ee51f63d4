// The light field over planes on the CPU: which instruction set, pieces and threads. The arithmetic is in
// planes_group.h.
#include <algorithm>

#include "core/isa.h"
#include "core/scratch.h"
#include "ops/planes.h"
#include "ops/planes_kernels.h"

namespace nldf {

namespace {

// Rays of a piece: a multiple of every instruction set's group.
constexpr int64_t kPieceRays = 192;

}  // namespace

const PlanesKernels<float>& planes_kernels(float) {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kPlanesAvx512;
  if (isa == Isa::avx2) return kPlanesAvx2;
#endif
  return kPlanesPortable;
}

const PlanesKernels<double>& planes_kernels(double) {
  return kPlanesPortableDouble;
}

template <class T>
void planes_cpu(const PlanesArgs<T>& args, const Exec& exec) {
  if (!args.frames || !args.rays) return;
  const PlanesKernels<T>& isa = planes_kernels(T());
  const PlanesModel<T> model(args.network);
  const int64_t width = args.network.width, segments = 3 * args.network.planes;
  const int64_t size = isa.scratch(args.network), results = (segments + 1) * kPlanesGroup;
  const int64_t pieces = (args.rays + kPieceRays - 1) / kPieceRays;
  parallel_for(args.frames * pieces, 1, exec.threads, [&](int64_t piece, int64_t) {
    const int64_t frame = piece / pieces, begin = piece % pieces * kPieceRays;
    const int64_t end = std::min(args.rays, begin + kPieceRays);
    T* const out = scratch<T>(results + size);
    PlanesRays<T> rays{};
    for (int64_t first = begin; first < end; first += isa.group) {
      const int64_t ray = frame * args.rays + first;
      rays.rows = static_cast<int>(std::min<int64_t>(isa.group, end - first));
      for (int i = 0; i < rays.rows; ++i) {
        T start[2], slope[2];
        planes_line(args.origins + 3 * (ray + i), args.directions + 3 * (ray + i), args.network.box, start,
                    slope);
        for (int axis = 0; axis < 2; ++axis) {
          rays.start[axis][i] = start[axis];
          rays.slope[axis][i] = slope[axis];
        }
      }
      isa.run(model, rays, args.warp_bias + frame * width, args.bias + frame * width, out, out + results);
      for (int i = 0; i < rays.rows; ++i) {
        for (int64_t c = 0; c < segments; ++c)
          args.segments[(ray + i) * segments + c] = out[c * kPlanesGroup + i];
        args.opacity[ray + i] = out[segments * kPlanesGroup + i];
      }
    }
  });
}

template void planes_cpu(const PlanesArgs<float>&, const Exec&);
template void planes_cpu(const PlanesArgs<double>&, const Exec&);

}  // namespace nldf
