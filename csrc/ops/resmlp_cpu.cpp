// The residual MLP on the CPU: which instruction set, tiles and threads. The arithmetic is in resmlp_tile.h.
#include <stdexcept>
#include <vector>

#include "core/isa.h"
#include "core/scratch.h"
#include "ops/resmlp.h"
#include "ops/resmlp_kernels.h"

namespace nldf {

namespace {

// Rays of a tile: a multiple of every instruction set's group. At 256 features its activations fill a
// third of a megabyte, which the second cache holds, and the weights pass by once for 96 rays.
constexpr int64_t kTileRays = 96;

const ResmlpKernels<float>& kernels(float) {
#ifdef NLDF_X86
  const Isa isa = cpu_isa();
  if (isa == Isa::avx512) return kResmlpAvx512;
  if (isa == Isa::avx2) return kResmlpAvx2;
#endif
  return kResmlpPortable;
}

const ResmlpKernels<double>& kernels(double) {
  return kResmlpPortableDouble;
}

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Rays of a tile: fewer where otherwise threads would have nothing to do.
int64_t tile_rays(int64_t frames, int64_t rays, int threads) {
  const int64_t share = ceil_div(rays * frames, std::max(threads, 1));
  return std::min(kTileRays, std::max<int64_t>(16, ceil_div(share, 16) * 16));
}

}  // namespace

template <class T>
void resmlp_cpu(const ResmlpArgs<T>& args, const Exec& exec) {
  if (!args.frames || !args.rays) return;
  const ResmlpKernels<T>& isa = kernels(T());
  const int64_t rows = tile_rays(args.frames, args.rays, exec.threads);
  const int64_t per_frame = ceil_div(args.rays, rows);
  const typename ResmlpKernels<T>::Forward& forward = args.body_int16  ? isa.int16
                                                      : args.body_int8 ? isa.int8
                                                                       : isa.plain;
  if (!forward.tile) throw std::invalid_argument("resmlp: integer weights go with float32 alone");
  const int64_t size = forward.scratch(args, rows);
  parallel_for(args.frames * per_frame, 1, exec.threads, [&](int64_t number, int64_t) {
    const int64_t frame = number / per_frame, first = number % per_frame * rows;
    const ResmlpTile tile{frame, frame * args.rays + first, std::min(rows, args.rays - first)};
    forward.tile(args, tile, scratch<T>(size));
  });
}

template <class T>
void resmlp_backward_cpu(const ResmlpBackwardArgs<T>& args, const Exec& exec) {
  const ResmlpKernels<T>& isa = kernels(T());
  const int64_t total = args.frames * args.rays, width = args.width, group = args.group;
  if (!total) return;
  const int64_t share = group / (4 * std::max(exec.threads, 1));
  const int64_t rows = share >= kTileRays ? kTileRays : share >= kTileRays / 2 ? kTileRays / 2 : 16;
  const int64_t size = isa.backward.scratch(args, rows);
  const ResmlpWorkspace at{group, width, args.blocks, panels(args.in_dim), panels(args.out_dim)};
  const T* work = args.workspace;
  for (int64_t begin = 0; begin < total; begin += group) {
    const int64_t end = std::min(total, begin + group);
    std::vector<ResmlpTile> tiles;
    for (int64_t first = begin; first < end;) {
      const int64_t frame = first / args.rays;
      const int64_t stop = std::min({end, (frame + 1) * args.rays, first + rows});
      tiles.push_back({frame, first, stop - first});
      first = stop;
    }
    parallel_for(static_cast<int64_t>(tiles.size()), 1, exec.threads,
                 [&](int64_t i, int64_t) { isa.backward.tile(args, tiles[i], begin, scratch<T>(size)); });

    // Every panel's sums run over the rays in their order, so they don't depend on threads.
    std::vector<ResmlpPanelGradient<T>> jobs;
    const auto add = [&](int64_t v_y, int64_t x, T* v_weights, T* v_bias, int64_t outputs, int64_t inputs) {
      for (int64_t n = 0; n < outputs; n += kPanel)
        jobs.push_back({work + v_y + n * group, work + x, v_weights + n * inputs,
                        v_bias ? v_bias + n : nullptr, group, end - begin,
                        std::min<int64_t>(kPanel, outputs - n), inputs});
    };
    add(at.v_out(), at.sum(), args.v_tail, args.v_tail_bias, args.out_dim, width);
    for (int64_t b = args.blocks - 1; b >= 0; --b) {
      T* v_weights = args.v_body + 2 * b * width * width;
      T* v_bias = args.v_body_bias + 2 * b * width;
      add(at.v_output(b), at.hidden(b), v_weights + width * width, v_bias + width, width, width);
      add(at.v_hidden(b), at.input(b), v_weights, v_bias, width, width);
    }
    add(at.v_first(), at.x(), args.v_head, static_cast<T*>(nullptr), width, args.in_dim);
    parallel_for(static_cast<int64_t>(jobs.size()), 4, exec.threads, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) isa.backward.weights(jobs[i]);
    });
    for (int64_t ray = begin; ray < end; ++ray) {
      T* v_bias = args.v_frame_bias + ray / args.rays * width;
      const T* v_first = work + at.v_first() + (ray - begin) * kPanel;
      for (int64_t n = 0; n < width; ++n) v_bias[n] += v_first[n / kPanel * group * kPanel + n % kPanel];
    }
  }
}

template void resmlp_backward_cpu(const ResmlpBackwardArgs<float>&, const Exec&);
template void resmlp_backward_cpu(const ResmlpBackwardArgs<double>&, const Exec&);
template void resmlp_cpu(const ResmlpArgs<float>&, const Exec&);
template void resmlp_cpu(const ResmlpArgs<double>&, const Exec&);

}  // namespace nldf
