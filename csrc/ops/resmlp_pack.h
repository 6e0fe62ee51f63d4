// The weights of a residual MLP as the fused kernels read them; shared by the packer on the host and both.
//
// The kernels read the whole network's weights as one stream of equal chunks, in the order of use: the head
// (its columns padded with zeros to a multiple of the chunk's depth), the blocks' layers, the tail.
//  - mma layout (any width): a chunk is 32 input columns, or 16 where that is the width. Lane l of a warp
//    finds the four registers of two neighbouring 8-column B fragments in the 16 bytes at index l of a group,
//    so neither ldmatrix nor a swizzle is needed for weights. The tail, padded to as many outputs as a chunk
//    has columns, is one chunk.
//  - wgmma layout (width 256): a chunk is 64 input columns, the 128-byte-swizzled shared-memory image that a
//    K-major descriptor names, so that a plain bulk copy brings it in. The tail, padded to 64 outputs, is one
//    chunk of four such images. Trunk columns are permuted by wgmma_column().
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/fragments.h"
#include "core/hd.h"

namespace nldf {

// --- mma.sync ---
// Input columns of a chunk, and the most outputs of the network: the tail is a chunk of as many rows.
NLDF_HD constexpr int mma_depth(int64_t width) {
  return width < 32 ? 16 : 32;
}

// --- wgmma ---
constexpr int kWgmmaWidth = 256;
constexpr int kWgmmaDepth = 64;
constexpr int kWgmmaOutputs = 64;

// The network's column that stands at place p of the trunk. Within 16 columns a lane's accumulators of two
// neighbouring tiles become four consecutive columns, so that biases and inputs are read 16 bytes at a time.
NLDF_HD int wgmma_column(int p) {
  return p / 16 * 16 + p % 8 / 2 * 4 + p % 16 / 8 * 2 + p % 2;
}

enum ResmlpLayout : int64_t { kLayoutMma = 0, kLayoutWgmma = 1 };

// --- inputs that the kernel makes itself ---
// A kernel that encodes beams (beams.h) wants sine and cosine of an angle side by side, so that four
// neighbouring inputs take two angles. Its places: the n = 3 K coordinates, filled up to a multiple of four,
// then (sin, cos) of all coordinates, level by level.
NLDF_HD int64_t beam_first_pair(int64_t n) {
  return (n + 3) / 4 * 4;
}
NLDF_HD int64_t beam_places(int64_t n, int64_t frequencies) {
  return beam_first_pair(n) + 2 * n * frequencies;
}
// The column of the encoding x, sin x, cos x, sin 2 x, ... that stands at a place, or -1 for none.
NLDF_HD int64_t beam_column(int64_t place, int64_t n) {
  const int64_t first = beam_first_pair(n);
  if (place < first) return place < n ? place : -1;
  const int64_t pair = (place - first) / 2;
  return n * (1 + 2 * (pair / n) + (place - first) % 2) + pair % n;
}

struct ResmlpPackArgs {
  NLDF_FIELDS((const uint16_t*, head),  // [width, in_dim] halves
              (const uint16_t*, body),  // [layers, width, width] halves: fc1 and fc2 of each block in turn
              (const uint16_t*, tail),  // [out_dim, width] halves
              (uint16_t*, packed),      // [chunks, chunk]
              (int64_t, in_dim), (int64_t, out_dim), (int64_t, width), (int64_t, layers), (int64_t, layout),
              (int64_t, coordinates));  // 3 K where the kernel encodes K points of a beam itself, or 0
};

// Columns and halves of a chunk, and the chunks of a network whose input has `in_dim` places.
NLDF_HD int64_t resmlp_depth(int64_t width, int64_t layout) {
  return layout == kLayoutWgmma ? kWgmmaDepth : mma_depth(width);
}
NLDF_HD int64_t resmlp_chunk(int64_t width, int64_t layout) {
  return width * resmlp_depth(width, layout);
}
NLDF_HD int64_t resmlp_head_chunks(int64_t in_dim, int64_t width, int64_t layout) {
  const int64_t depth = resmlp_depth(width, layout);
  return (in_dim + depth - 1) / depth;
}
NLDF_HD int64_t resmlp_chunks(int64_t in_dim, int64_t width, int64_t layers, int64_t layout) {
  return resmlp_head_chunks(in_dim, width, layout) + layers * (width / resmlp_depth(width, layout)) + 1;
}

// Writes the stream; runs on the host only.
inline void resmlp_pack(const ResmlpPackArgs& args, const Exec& exec) {
  const bool wgmma = args.layout == kLayoutWgmma;
  const int64_t chunk = resmlp_chunk(args.width, args.layout), depth = chunk / args.width;
  const int64_t coordinates = args.coordinates;
  const int64_t frequencies = coordinates ? (args.in_dim / coordinates - 1) / 2 : 0;
  const int64_t places = coordinates ? beam_places(coordinates, frequencies) : args.in_dim;
  const int64_t head = resmlp_head_chunks(places, args.width, args.layout), per_layer = args.width / depth;
  const int64_t chunks = resmlp_chunks(places, args.width, args.layers, args.layout);
  // Where the trunk's and the input's columns stand; the tail's outputs stay in order.
  const auto column = [&](int64_t p) { return wgmma ? wgmma_column(static_cast<int>(p)) : p; };
  parallel_for(chunks, 8, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      uint16_t* to = args.packed + c * chunk;
      const bool is_head = c < head, is_tail = c == chunks - 1;
      const int64_t layer = is_head || is_tail ? 0 : (c - head) / per_layer;
      const uint16_t* from =
          is_head ? args.head : (is_tail ? args.tail : args.body + layer * args.width * args.width);
      const int64_t columns = is_head ? args.in_dim : args.width;
      const int64_t first = is_tail ? 0 : (is_head ? c : (c - head) % per_layer) * depth;
      const int64_t rows = is_tail ? args.out_dim : args.width;
      const int64_t n_end = is_tail ? (wgmma ? kWgmmaOutputs : depth) : args.width;
      const int64_t k_end = is_tail ? args.width : depth;
      for (int64_t n = 0; n < n_end; ++n) {
        const int64_t row = is_tail ? n : column(n);
        for (int64_t k = 0; k < k_end; ++k) {
          const int64_t place = column(first + k);
          const int64_t col =
              is_head && coordinates ? (place < places ? beam_column(place, coordinates) : -1) : place;
          const int in = static_cast<int>(n), ik = static_cast<int>(k);
          const int64_t at = !wgmma ? mma_weight_at(in, ik, static_cast<int>(n_end))
                                    : ik / 64 * (n_end * 64) + wgmma_weight_at(in, ik % 64);
          to[at] = row < rows && col >= 0 && col < columns ? from[row * columns + col] : uint16_t{0};
        }
      }
    }
  });
}

}  // namespace nldf
