// One tile of rays through the residual MLP on the CPU; for its layout see core/lanes.h.
#pragma once

#include "core/layer.h"
#include "core/transpose.h"
#include "ops/resmlp.h"

namespace nldf {
namespace {

// The blocks in the tile's own type: z += fc2(relu(fc1(z))).
template <class L>
struct PlainBody {
  using T = typename L::Scalar;
  const ResmlpArgs<T>& args;
  static int64_t scratch(const ResmlpArgs<T>&, int64_t) { return 0; }
  void operator()(const Cut<L>& cut, int64_t, T* z, T* h, T*) const {
    const int64_t width = args.width;
    for (int64_t l = 0; l < 2 * args.blocks; l += 2) {
      const T* w = args.body + l * width * width;
      const T* b = args.body_bias + l * width;
      layer<L, Store::relu>(cut, z, w, width, b, h, width);
      layer<L, Store::add>(cut, h, w + width * width, width, b + width, z, width);
    }
  }
};

// Scalars of scratch memory that forward_tile needs.
template <class L, class Body>
inline int64_t forward_scratch(const ResmlpArgs<typename L::Scalar>& args, int64_t rows) {
  const int64_t wide = kPanel * panels(args.out_dim);
  return padded<L>(rows) * (args.in_dim + 3 * args.width + wide) + Body::scratch(args, rows) + wide;
}

template <class L, class Body>
inline void forward_tile(const ResmlpArgs<typename L::Scalar>& args, const ResmlpTile& tile,
                         typename L::Scalar* scratch) {
  using T = typename L::Scalar;
  const Cut<L> cut(tile.rows);
  const int64_t width = args.width, rays = padded<L>(tile.rows);
  const int64_t wide = kPanel * panels(args.out_dim);
  // All of these start at whole vectors, for their sizes are multiples of a vector of rays.
  T* const y = scratch;
  T* const z = y + rays * width;
  T* const h = z + rays * width;
  T* const out = h + rays * width;
  T* const x = out + rays * wide;
  T* const tail_bias = x + rays * args.in_dim;
  T* const more = tail_bias + wide;
  to_tile<L>(cut, args.x + tile.first * args.in_dim, tile.rows, args.in_dim, x);
  layer<L, Store::relu>(cut, x, args.head, args.in_dim, args.frame_bias + tile.frame * width, y, width);
  if (args.blocks) {
    memcpy(z, y, sizeof(T) * rays * width);
    Body{args}(cut, rays, z, h, more);
    for (int64_t i = 0; i < rays * width; ++i) y[i] += z[i];
  }
  for (int64_t n = 0; n < wide; ++n) tail_bias[n] = n < args.out_dim ? args.tail_bias[n] : T(0);
  layer<L, Store::plain>(cut, y, args.tail, width, tail_bias, out, wide);
  to_rows<L>(cut, out, wide, tile.rows, args.out_dim, args.out + tile.first * args.out_dim);
}

}  // namespace

}  // namespace nldf
