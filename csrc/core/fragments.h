// Where the tensor cores want a matrix's elements; shared by the packers on the host and the kernels.
#pragma once

#include <cstdint>

#include "core/hd.h"

namespace nldf {

// Fragments of m16n8k16, and of each warp of wgmma m64nNk16. Lane l holds accumulators d[0..3] of an n8 tile;
// d[i] is at row fragment_row(l, i) and column fragment_col(l, i). Packed to halves, tiles 2j and 2j + 1 are
// the A fragment of the next layer's k16 step j: this is what lets wgmma chain layers in registers.
NLDF_HD int fragment_row(int lane, int i) {
  return lane / 4 + 8 * (i / 2);
}
NLDF_HD int fragment_col(int lane, int i) {
  return 2 * (lane % 4) + i % 2;
}

// Offset, in halves, of weight [n, k] for mma.sync in a chunk with `outputs` rows (a multiple of 16); k
// counts from the chunk's first column.
NLDF_HD int mma_weight_at(int n, int k, int outputs) {
  const int group = k / 16 * (outputs / 16) + n / 16;
  const int lane = n % 8 * 4 + k % 8 / 2;
  const int word = n % 16 / 8 * 2 + k % 16 / 8;
  return (group * 32 + lane) * 8 + word * 2 + k % 2;
}

// Offset, in halves, of activation [row, col] in a shared tile of `width` columns. Eight rows of one 16-byte
// column lie in different banks, as ldmatrix and the epilogue want them.
NLDF_HD int tile_at(int row, int col, int width) {
  const int columns = width / 8;
  const int turn = columns >= 8 ? row & 7 : (columns == 4 ? row >> 1 & 3 : row >> 2 & 1);
  return row * width + ((col / 8) ^ turn) * 8 + col % 8;
}

// Offset, in halves, of weight [n, k] for wgmma in a K-major image of 64 columns under the 128-byte swizzle.
NLDF_HD int wgmma_weight_at(int n, int k) {
  return n * 64 + ((k / 8) ^ (n & 7)) * 8 + k % 8;
}

}  // namespace nldf
