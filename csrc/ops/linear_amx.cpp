// The 8-bit linear layer by AMX's tiles, compiled for AVX-512 and AMX-INT8: sums of 32 rows and 32 outputs at
// once, of the same integers as linear_avx512.cpp and so of the same value.
#include <immintrin.h>

#include "ops/linear_lanes.h"

namespace nldf {
namespace {

using L = Lanes<float, 64, 8, 3>;
constexpr int kTile = 16;    // rows and outputs of a tile of sums
constexpr int kInputs = 64;  // that a tile of integers or weights has
constexpr int kGroup = 2 * kTile;

// Eight tiles of 16 rows of 64 bytes, as the processor reads it.
struct alignas(64) Shape {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// Not on the stack: GCC's ldtilecfg names the first 8 of its 64 bytes alone as read, so that a compiler may
// leave out what it stores to the others.
constexpr Shape kShape;

// Sums of tiles [2 Rows][2 outputs] of 16 x 16 of the rows from `x` on.
template <bool Both>
void sum_tiles(const LinearArgs& args, const uint8_t* x, int64_t first, int32_t* sums) {
  const int64_t inputs = args.dim_in;
  const int8_t *w = args.weights + first * inputs, *w1 = w + kLinearPanel * inputs;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < inputs; k += kInputs) {
    _tile_loadd(4, x + k, inputs);
    _tile_loadd(6, w + k * kLinearPanel, 64);
    _tile_loadd(7, w1 + k * kLinearPanel, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    if (Both) {
      _tile_loadd(5, x + kTile * inputs + k, inputs);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
  }
  // Rows of 32 sums, one behind the other.
  _tile_stored(0, sums, 128);
  _tile_stored(1, sums + kTile, 128);
  if (Both) {
    _tile_stored(2, sums + kTile * 32, 128);
    _tile_stored(3, sums + kTile * 32 + kTile, 128);
  }
}

void multiply(const LinearArgs& args, const void* integers, const float* scales, int64_t first,
              int64_t last) {
  _tile_loadconfig(&kShape);
  alignas(64) int32_t sums[kGroup * 32], offsets[32];
  for (int64_t row = 0; row < args.rows; row += kGroup) {
    const uint8_t* const x = static_cast<const uint8_t*>(integers) + row * args.dim_in;
    for (int64_t n = first; n < last; n += 32) {
      for (int i = 0; i < 32; ++i) offsets[i] = 128 * args.sums[n + i];
      if (args.rows - row > kTile)
        sum_tiles<true>(args, x, n, sums);
      else
        sum_tiles<false>(args, x, n, sums);
      for (int r = 0; r < kGroup && row + r < args.rows; ++r)
        linear_finish<L, 32>(args, sums + 32 * r, offsets, scales[row + r], row + r, n);
    }
  }
  _tile_release();
}

}  // namespace

// Rows lie one behind the other, as a group of one would.
const LinearKernels kLinearAmx = {kGroup, 1, linear_quantise<L, uint8_t, 128, 1>, multiply};

}  // namespace nldf
