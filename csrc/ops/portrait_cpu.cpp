// Frames on the CPU: pieces of pixels that stay in the cache, from their rays to their bytes.
#include <algorithm>
#include <cmath>

#include "core/scratch.h"
#include "ops/planes_kernels.h"
#include "ops/portrait.h"

namespace nldf {

// Work on all pixels is compiled for AVX2 too, without fused multiply-adds: it rounds as the operations do
// that the generic path is made of, so both choose the same pixels.
#if defined(__GNUC__) && defined(__x86_64__)
#define NLDF_STAGE inline __attribute__((always_inline))
#define NLDF_WIDE __attribute__((target("avx2")))
#define NLDF_HAS_WIDE __builtin_cpu_supports("avx2")
#else
#define NLDF_STAGE inline
#define NLDF_WIDE
#define NLDF_HAS_WIDE false
#endif

namespace {

constexpr int64_t kPiece = 1024;

// What a network says of a piece's pixels.
struct Seen {
  float color[3 * kPiece];  // premultiplied, a pixel's three together
  float alpha[kPiece];
};

// A piece's pixels. The list names those that a network evaluates, in order.
struct alignas(64) Piece {
  float pixel[2][kPiece];
  float start[2][kPiece];  // of lines in unit coordinates
  float slope[2][kPiece];
  int32_t cell[kPiece];  // of the map, or -1
  int32_t list[kPiece];
  Seen head;
  Seen torso;
  float hidden[3 * kPiece];   // what the head leaves of the torso,
  float through[3 * kPiece];  // and both of the background, for each channel
  int64_t frame;
  int64_t first;  // number of the first pixel in the frame
  int count;
};

// The line of pixel i, and the cell of the head's map that it meets. Apart from the loop, for arrays that a loop's
// body declares keep compilers from making vectors of it.
NLDF_STAGE void find_head_at(const PortraitArgs& args, const RayCamera<float>& camera, Piece& piece, int i) {
  const float pixel[2] = {piece.pixel[0][i], piece.pixel[1][i]};
  float origin[3], direction[3], start[2], slope[2], unit[2];
  make_ray(camera, pixel, origin, direction);
  const float distance = -origin[2] / direction[2];
  for (int axis = 0; axis < 2; ++axis)
    unit[axis] = (origin[axis] + distance * direction[axis]) / args.half_size * 0.5f + 0.5f;
  const bool inside = (unit[0] >= 0.0f) & (unit[0] < 1.0f) & (unit[1] >= 0.0f) & (unit[1] < 1.0f);
  const int32_t cell = portrait_cell(unit[0], unit[1], static_cast<int32_t>(args.head.map.resolution));
  piece.cell[i] = inside ? cell : -1;
  planes_line(origin, direction, args.head.network.box, start, slope);
  piece.start[0][i] = start[0], piece.start[1][i] = start[1];
  piece.slope[0][i] = slope[0], piece.slope[1][i] = slope[1];
}

// All pixels of a piece.
NLDF_STAGE void find_head(const PortraitArgs& args, Piece& piece) {
  const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, piece.frame);
  NLDF_LANES
  for (int i = 0; i < piece.count; ++i) find_head_at(args, camera, piece, i);
}

// Where the piece's pixels fall on the torso. Lines without slope.
NLDF_STAGE void find_torso(const PortraitArgs& args, Piece& piece) {
  const int32_t resolution = static_cast<int32_t>(args.torso.map.resolution);
  const float width = static_cast<float>(args.width);
  const float* const box = args.torso.network.box;
  const float* const m = args.motion + 6 * piece.frame;
  NLDF_LANES
  for (int i = 0; i < piece.count; ++i) {
    const float x = piece.pixel[0][i] / width - m[4], y = piece.pixel[1][i] / width - m[5];
    const float unit_x = (m[0] * x + m[1] * y - box[0]) / (box[2] - box[0]);
    const float unit_y = (m[2] * x + m[3] * y - box[1]) / (box[3] - box[1]);
    piece.start[0][i] = unit_x, piece.start[1][i] = unit_y;
    piece.slope[0][i] = 0.0f, piece.slope[1][i] = 0.0f;
    const int32_t cell = portrait_cell(unit_x, unit_y, resolution);
    piece.cell[i] = 1.0f - piece.head.alpha[i] > kPortraitHidden ? cell : -1;
  }
}

// Rounds to the nearest, halves to even, as torch does.
NLDF_STAGE uint8_t to_byte(float value) {
  const float scaled = value * 255.0f;
  const float held = scaled > 0.0f ? (scaled < 255.0f ? scaled : 255.0f) : 0.0f;
  constexpr float kWhole = 8388608.0f;
  return static_cast<uint8_t>(static_cast<int32_t>((held + kWhole) - kWhole));
}

NLDF_STAGE void compose(const PortraitArgs& args, Piece& piece) {
  for (int i = 0; i < piece.count; ++i) {
    const float hidden = 1.0f - piece.head.alpha[i];
    const float through = 1.0f - (piece.head.alpha[i] + hidden * piece.torso.alpha[i]);
    for (int c = 0; c < 3; ++c) {
      piece.hidden[3 * i + c] = hidden;
      piece.through[3 * i + c] = through;
    }
  }
  const float* const under = args.background + 3 * piece.first;
  uint8_t* const out = args.out + 3 * (piece.frame * args.width * args.height + piece.first);
  NLDF_LANES
  for (int j = 0; j < 3 * piece.count; ++j)
    out[j] =
        to_byte(piece.head.color[j] + piece.hidden[j] * piece.torso.color[j] + piece.through[j] * under[j]);
}

struct Stages {
  void (*head)(const PortraitArgs&, Piece&);
  void (*torso)(const PortraitArgs&, Piece&);
  void (*compose)(const PortraitArgs&, Piece&);
};
void head_plain(const PortraitArgs& args, Piece& piece) {
  find_head(args, piece);
}
void torso_plain(const PortraitArgs& args, Piece& piece) {
  find_torso(args, piece);
}
void compose_plain(const PortraitArgs& args, Piece& piece) {
  compose(args, piece);
}
NLDF_WIDE void head_wide(const PortraitArgs& args, Piece& piece) {
  find_head(args, piece);
}
NLDF_WIDE void torso_wide(const PortraitArgs& args, Piece& piece) {
  find_torso(args, piece);
}
NLDF_WIDE void compose_wide(const PortraitArgs& args, Piece& piece) {
  compose(args, piece);
}

// The pixels' centres, row by row.
void place(const PortraitArgs& args, Piece& piece) {
  int64_t row = piece.first / args.width, column = piece.first % args.width;
  for (int i = 0; i < piece.count; ++row, column = 0) {
    const int stop = static_cast<int>(std::min<int64_t>(piece.count, i + args.width - column));
    for (; i < stop; ++i, ++column) {
      piece.pixel[0][i] = static_cast<float>(column) + 0.5f;
      piece.pixel[1][i] = static_cast<float>(row) + 0.5f;
    }
  }
}

// The pixels in marked cells, and their number; all are transparent as yet.
int choose(const PortraitMap& map, Piece& piece, Seen& seen) {
  int count = 0;
  for (int i = 0; i < piece.count; ++i) {
    const int32_t cell = piece.cell[i];
    piece.list[count] = i;
    count += cell >= 0 && map.cells[cell];
  }
  std::fill(seen.color, seen.color + 3 * piece.count, 0.0f);
  std::fill(seen.alpha, seen.alpha + piece.count, 0.0f);
  return count;
}

// A network's colour and opacity on the chosen pixels.
void evaluate(const PlanesKernels<float>& isa, const PlanesModel<float>& model, const PortraitPart& part,
              int chosen, const Piece& piece, Seen& seen, float* work) {
  const int planes = static_cast<int>(model.network.planes);
  const float* const warp_bias = part.warp_bias + piece.frame * model.network.width;
  const float* const bias = part.bias + piece.frame * model.network.width;
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
    isa.run(model, rays, warp_bias, bias, out, out + (3 * planes + 1) * kPlanesGroup);
    for (int c = 0; c < 3; ++c) {
      for (int p = 1; p < planes; ++p) {
        for (int i = 0; i < kPlanesGroup; ++i)
          out[c * kPlanesGroup + i] += out[(3 * p + c) * kPlanesGroup + i];
      }
      for (int i = 0; i < rays.rows; ++i) seen.color[3 * list[i] + c] = out[c * kPlanesGroup + i];
    }
    for (int i = 0; i < rays.rows; ++i) seen.alpha[list[i]] = out[3 * planes * kPlanesGroup + i];
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
  const Stages stages = NLDF_HAS_WIDE ? Stages{head_wide, torso_wide, compose_wide}
                                      : Stages{head_plain, torso_plain, compose_plain};
  const int64_t pixels = args.width * args.height, pieces = (pixels + kPiece - 1) / kPiece;
  const auto draw = [&](int64_t number) {
    float* const memory = scratch<float>(held + size);
    Piece& piece = *new (memory) Piece;
    piece.frame = number / pieces;
    piece.first = number % pieces * kPiece;
    piece.count = static_cast<int>(std::min(kPiece, pixels - piece.first));
    place(args, piece);
    stages.head(args, piece);
    const int met = choose(args.head.map, piece, piece.head);
    evaluate(isa, head, args.head, met, piece, piece.head, memory + held);
    if (args.has_torso) {
      stages.torso(args, piece);
      const int shown = choose(args.torso.map, piece, piece.torso);
      evaluate(isa, torso, args.torso, shown, piece, piece.torso, memory + held);
    } else {
      std::fill(piece.torso.color, piece.torso.color + 3 * piece.count, 0.0f);
      std::fill(piece.torso.alpha, piece.torso.alpha + piece.count, 0.0f);
    }
    stages.compose(args, piece);
  };
  parallel_for(args.frames * pieces, 1, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) draw(number);
  });
}

}  // namespace nldf
