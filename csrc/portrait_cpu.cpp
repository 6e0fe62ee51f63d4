// A frame on the CPU: pieces of pixels that stay in the cache, from their rays to their bytes.
#include <algorithm>
#include <cmath>

#include "planes_kernels.h"
#include "portrait.h"
#include "scratch.h"

namespace nldf {

namespace {

constexpr int64_t kPiece = 1024;
// A torso that shows less than this behind the head is not asked for: a sixteenth of a byte's step.
constexpr float kHidden = 1.0f / 4096;

// A piece's pixels. The lists name those that a network is asked for, in order.
struct alignas(64) Piece {
  float head[4][kPiece];   // premultiplied colour, opacity
  float torso[4][kPiece];
  float start[2][kPiece];  // of lines in unit coordinates
  float slope[2][kPiece];
  int32_t cell[kPiece];    // of the map, or -1
  int32_t list[kPiece];
  int64_t first;  // number of the first pixel in the frame
  int count;
};

inline void place_of(const PortraitArgs& args, const Piece& piece, int i, float* pixel) {
  // Pixels are numbered row by row; 32 bits divide faster.
  const uint32_t number = static_cast<uint32_t>(piece.first) + static_cast<uint32_t>(i);
  const uint32_t width = static_cast<uint32_t>(args.width);
  pixel[0] = static_cast<float>(static_cast<int32_t>(number % width)) + 0.5f;
  pixel[1] = static_cast<float>(static_cast<int32_t>(number / width)) + 0.5f;
}

// Lines of all rays of a piece, and the cells of the head's map that they meet.
void find_head(const PortraitArgs& args, Piece& piece) {
  const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, 0);
  const int32_t resolution = static_cast<int32_t>(args.head.map.resolution);
  NLDF_LANES
  for (int i = 0; i < piece.count; ++i) {
    float pixel[2], origin[3], direction[3], start[2], slope[2], unit[2];
    place_of(args, piece, i, pixel);
    make_ray(camera, pixel, origin, direction);
    const float distance = -origin[2] / direction[2];
    for (int axis = 0; axis < 2; ++axis)
      unit[axis] = (origin[axis] + distance * direction[axis]) / args.half_size * 0.5f + 0.5f;
    const bool inside = (unit[0] >= 0.0f) & (unit[0] < 1.0f) & (unit[1] >= 0.0f) & (unit[1] < 1.0f);
    const int32_t cell = portrait_cell(unit[0], unit[1], resolution);
    piece.cell[i] = inside ? cell : -1;
    planes_line(origin, direction, args.head.network.box, start, slope);
    piece.start[0][i] = start[0], piece.start[1][i] = start[1];
    piece.slope[0][i] = slope[0], piece.slope[1][i] = slope[1];
  }
}

// Where the piece's pixels fall on the torso. Lines without slope.
void find_torso(const PortraitArgs& args, Piece& piece) {
  const int32_t resolution = static_cast<int32_t>(args.torso.map.resolution);
  const float width = static_cast<float>(args.width);
  const float* const box = args.torso.network.box;
  const float* const m = args.motion;
  NLDF_LANES
  for (int i = 0; i < piece.count; ++i) {
    float pixel[2];
    place_of(args, piece, i, pixel);
    const float x = pixel[0] / width - m[4], y = pixel[1] / width - m[5];
    const float unit_x = (m[0] * x + m[1] * y - box[0]) / (box[2] - box[0]);
    const float unit_y = (m[2] * x + m[3] * y - box[1]) / (box[3] - box[1]);
    piece.start[0][i] = unit_x, piece.start[1][i] = unit_y;
    piece.slope[0][i] = 0.0f, piece.slope[1][i] = 0.0f;
    const int32_t cell = portrait_cell(unit_x, unit_y, resolution);
    piece.cell[i] = 1.0f - piece.head[3][i] > kHidden ? cell : -1;
  }
}

// The pixels in marked cells, and their number; all others are transparent.
int choose(const PortraitMap& map, Piece& piece, float (*color)[kPiece]) {
  int count = 0;
  for (int i = 0; i < piece.count; ++i) {
    const int32_t cell = piece.cell[i];
    const bool marked = cell >= 0 && map.cells[cell];
    piece.list[count] = i;
    count += marked;
  }
  for (int c = 0; c < 4; ++c) std::fill(color[c], color[c] + piece.count, 0.0f);
  return count;
}

// A network's colour and opacity on the chosen pixels.
void evaluate(const PlanesKernels<float>& isa, const PlanesModel<float>& model, const PortraitPart& part,
              int chosen, const Piece& piece, float (*color)[kPiece], float* work) {
  const int planes = static_cast<int>(model.network.planes);
  float* const out = work;
  PlanesRays<float> rays{};
  for (int first = 0; first < chosen; first += isa.group) {
    rays.rows = std::min(isa.group, chosen - first);
    const int32_t* const list = piece.list + first;
    for (int axis = 0; axis < 2; ++axis) {
      for (int i = 0; i < rays.rows; ++i) {
        rays.start[axis][i] = piece.start[axis][list[i]];
        rays.slope[axis][i] = piece.slope[axis][list[i]];
      }
    }
    isa.run(model, rays, part.warp_bias, part.bias, out, out + (3 * planes + 1) * kPlanesGroup);
    for (int c = 0; c < 3; ++c) {
      for (int p = 1; p < planes; ++p) {
        for (int i = 0; i < kPlanesGroup; ++i)
          out[c * kPlanesGroup + i] += out[(3 * p + c) * kPlanesGroup + i];
      }
      for (int i = 0; i < rays.rows; ++i) color[c][list[i]] = out[c * kPlanesGroup + i];
    }
    for (int i = 0; i < rays.rows; ++i) color[3][list[i]] = out[3 * planes * kPlanesGroup + i];
  }
}

// Rounds to the nearest, halves to even, as torch does.
inline uint8_t to_byte(float value) {
  const float scaled = value * 255.0f;
  const float held = scaled > 0.0f ? (scaled < 255.0f ? scaled : 255.0f) : 0.0f;
  constexpr float kRound = 8388608.0f;
  return static_cast<uint8_t>(static_cast<int32_t>((held + kRound) - kRound));
}

void compose(const PortraitArgs& args, const Piece& piece) {
  for (int i = 0; i < piece.count; ++i) {
    const float* const under = args.background + 3 * (piece.first + i);
    uint8_t* const out = args.out + 3 * (piece.first + i);
    const float hidden = 1.0f - piece.head[3][i];
    const float alpha = piece.head[3][i] + hidden * piece.torso[3][i];
    for (int c = 0; c < 3; ++c)
      out[c] = to_byte(piece.head[c][i] + hidden * piece.torso[c][i] + (1.0f - alpha) * under[c]);
  }
}

int64_t work_size(const PlanesKernels<float>& isa, const PlanesNetwork<float>& network) {
  return (3 * network.planes + 1) * kPlanesGroup + isa.scratch(network);
}

}  // namespace

void portrait_cpu(const PortraitArgs& args, const Exec& exec) {
  const PlanesKernels<float>& isa = planes_kernels(0.0f);
  const PlanesModel<float> head(args.head.network);
  const PlanesModel<float> torso(args.has_torso ? args.torso.network : args.head.network);
  const int64_t size = std::max(work_size(isa, head.network), work_size(isa, torso.network));
  constexpr int64_t held = sizeof(Piece) / sizeof(float);
  parallel_for(args.width * args.height, kPiece, exec.threads, [&](int64_t begin, int64_t end) {
    float* const memory = scratch<float>(held + size);
    Piece& piece = *new (memory) Piece;
    piece.first = begin;
    piece.count = static_cast<int>(end - begin);
    find_head(args, piece);
    evaluate(isa, head, args.head, choose(args.head.map, piece, piece.head), piece, piece.head,
             memory + held);
    if (args.has_torso) {
      find_torso(args, piece);
      evaluate(isa, torso, args.torso, choose(args.torso.map, piece, piece.torso), piece, piece.torso,
               memory + held);
    } else {
      for (auto& row : piece.torso) std::fill(row, row + piece.count, 0.0f);
    }
    compose(args, piece);
  });
}

}  // namespace nldf
