#include "ops/compact.h"

namespace nldf {

void compact_cpu(const CompactArgs& args, const Exec& exec) {
  const int64_t tiles = compact_tiles(args);
  parallel_for(tiles, 8, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t last = std::min(args.rays, (tile + 1) * kCompactTile);
      int32_t chosen = 0;
      for (int64_t i = tile * kCompactTile; i < last; ++i) chosen += args.mask[i] != 0;
      args.tiles[tile] = chosen;
    }
  });
  int32_t total = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int32_t chosen = args.tiles[tile];
    args.tiles[tile] = total;
    total += chosen;
  }
  *args.count = total;
  parallel_for(tiles, 8, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t last = std::min(args.rays, (tile + 1) * kCompactTile);
      int64_t before = args.tiles[tile];
      for (int64_t i = tile * kCompactTile; i < last; ++i) {
        const bool chosen = args.mask[i] != 0;
        args.order[compact_place(args, i, before, chosen)] = static_cast<int32_t>(i);
        before += chosen;
      }
    }
  });
}

// What lies behind goes into the whole picture first, in runs; then only the chosen rays are looked for.
template <class T>
void compact_over_cpu(const CompactOverArgs<T>& args, const Exec& exec) {
  const auto fill = [](T* out, const T* under, int64_t begin, int64_t end) {
    if (under)
      std::copy(under + begin, under + end, out + begin);
    else
      std::fill(out + begin, out + end, T(0));
  };
  parallel_for(args.rays, 1 << 15, exec.threads, [&](int64_t begin, int64_t end) {
    fill(args.out_color, args.under_color, 3 * begin, 3 * end);
    fill(args.out_alpha, args.under_alpha, begin, end);
  });
  parallel_for(std::min(args.chosen, args.rays), 4096, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) compact_over_ray(args, n);
  });
}

template void compact_over_cpu(const CompactOverArgs<float>&, const Exec&);
template void compact_over_cpu(const CompactOverArgs<double>&, const Exec&);

}  // namespace nldf
