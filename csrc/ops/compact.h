// Rays that a network evaluates, brought together, and their colours put back into the frame; the only
// place this logic lives.
//
// The order is a permutation of all R rays: the chosen ones first, in order, and the others from the back
// (the last place holds the first of them). Where ray i goes depends only on c, how many chosen ones stand
// before it: to c if it is chosen, else to R - 1 - (i - c). So a piece of the mask can be written as soon as
// the chosen rays before it are counted, in any order and with the same result.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr int64_t kCompactTile = 2048;  // rays that are counted as one

struct CompactArgs {
  NLDF_FIELDS((const uint8_t*, mask),  // [R]; other than 0 is chosen
              (int32_t*, order),       // [R]
              (int32_t*, count),       // [1], how many are chosen
              (int32_t*, tiles),       // [ceil(R / kCompactTile)], workspace: chosen rays of each tile
              (int64_t, rays));        // R, below 2^31
};

NLDF_HD int64_t compact_tiles(const CompactArgs& args) {
  return (args.rays + kCompactTile - 1) / kCompactTile;
}

// Where ray `i` goes, with `before` chosen rays in front of it.
NLDF_HD int64_t compact_place(const CompactArgs& args, int64_t i, int64_t before, bool chosen) {
  return chosen ? before : args.rays - 1 - (i - before);
}

template <class T>
struct CompactOverArgs {
  NLDF_FIELDS((const T*, colors),       // [N, 3], premultiplied, of the first N rays of the order
              (const T*, opacity),      // [N]
              (const int32_t*, order),  // [R]
              (const T*, under_color),  // [R, 3], premultiplied, or null for nothing
              (const T*, under_alpha),  // [R], or null for nothing
              (T*, out_color),          // [R, 3]
              (T*, out_alpha),          // [R]
              (int64_t, rays),          // R
              (int64_t, chosen));       // N
};

// The pixel of the ray at place n of the order. An order that names no ray of the frame is passed over, so
// that a wrong one can't write elsewhere.
template <class T>
NLDF_HD void compact_over_ray(const CompactOverArgs<T>& args, int64_t n) {
  const int64_t ray = args.order[n];
  if (ray < 0 || ray >= args.rays) return;
  const bool seen = n < args.chosen;
  const T alpha = seen ? args.opacity[n] : T(0);
  const T hidden = T(1) - alpha;
  for (int c = 0; c < 3; ++c) {
    const T color = seen ? args.colors[3 * n + c] : T(0);
    args.out_color[3 * ray + c] = args.under_color ? color + hidden * args.under_color[3 * ray + c] : color;
  }
  args.out_alpha[ray] = args.under_alpha ? alpha + hidden * args.under_alpha[ray] : alpha;
}

void compact_cpu(const CompactArgs& args, const Exec& exec);
void compact_cuda(const CompactArgs& args, const Exec& exec);
template <class T>
void compact_over_cpu(const CompactOverArgs<T>& args, const Exec& exec);
void compact_over_cuda(const CompactOverArgs<float>& args, const Exec& exec);

}  // namespace nldf
