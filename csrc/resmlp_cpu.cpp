// The residual MLP on the CPU: which instruction set, tiles and threads. The arithmetic is in resmlp_tile.h.
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "resmlp.h"
#include "resmlp_tile.h"

namespace nldf {

namespace {

// Rays of a tile: a multiple of every instruction set's group. At 256 features its activations fill a
// third of a megabyte, which the second cache holds, and the weights pass by once for 96 rays.
constexpr int64_t kTileRays = 96;
constexpr std::size_t kCacheLine = 64;

// A thread's scratch memory, kept between calls: fresh pages can cost more than the arithmetic.
template <class T>
T* scratch(int64_t count) {
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(kCacheLine)); }
  };
  thread_local std::unique_ptr<T, Free> memory;
  thread_local int64_t size = 0;
  if (count > size) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<T*>(::operator new(sizeof(T) * count, std::align_val_t(kCacheLine))));
    size = count;
  }
  return memory.get();
}

bool has(const std::string& isa) {
#ifdef NLDF_X86
  if (isa == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vnni");
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == "portable";
}

const ResmlpKernels<float>& kernels(float) {
  const char* wanted = std::getenv("NLDF_CPU_ISA");
  const std::string isa = wanted ? wanted : "";
  if (!isa.empty() && !has(isa))
    throw std::invalid_argument("NLDF_CPU_ISA is '" + isa +
                                "': expected portable, avx2 or avx512, and one that this processor has");
#ifdef NLDF_X86
  static const bool avx512 = has("avx512"), avx2 = has("avx2");
  if (isa == "avx512" || (isa.empty() && avx512)) return kResmlpAvx512;
  if (isa == "avx2" || (isa.empty() && avx2)) return kResmlpAvx2;
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

const char* resmlp_isa() {
  return kernels(0.0f).name;
}

template <class T>
void resmlp_cpu(const ResmlpArgs<T>& args, const Exec& exec) {
  if (!args.frames || !args.rays) return;
  const ResmlpKernels<T>& isa = kernels(T());
  const int64_t rows = tile_rays(args.frames, args.rays, exec.threads);
  const int64_t per_frame = ceil_div(args.rays, rows);
  const int64_t size = isa.forward_scratch(args, rows);
  parallel_for(args.frames * per_frame, 1, exec.threads, [&](int64_t number, int64_t) {
    const int64_t frame = number / per_frame, first = number % per_frame * rows;
    const ResmlpTile tile{frame, frame * args.rays + first, std::min(rows, args.rays - first)};
    isa.forward_tile(args, tile, scratch<T>(size));
  });
}

template void resmlp_cpu(const ResmlpArgs<float>&, const Exec&);
template void resmlp_cpu(const ResmlpArgs<double>&, const Exec&);

}  // namespace nldf
