// Frames on the CPU: tiles of pixels that stay in the cache, from their rays to their bytes.
//
// What a warp net says changes slowly from pixel to pixel, unlike what is read where it leads. So where
// layers are in 8 bits, which round more than that, it is evaluated at every second pixel of every second
// row, and half-way between these it is their mean, as long as a pixel is less than kSlow of a cell of its
// finest grid. Below kClose of it the head is seen in the first and the last rows of small blocks before
// the others, which are left out where a block's show nothing: its map covers all poses, and is
// too large for one of them.
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

constexpr int kSide = 32;  // of a tile
constexpr int kTile = kSide * kSide;
// Every second pixel of a tile and of the next ones' first row and column.
constexpr int kKnots = kSide / 2 + 1;
constexpr int kSparse = kKnots * kKnots;
constexpr int kPlaces = kTile + kSparse;
constexpr float kSlow = 0.25f;
// As kPortraitHidden, where the torso's layers are in 8 bits: half a byte's step.
constexpr float kHiddenInt8 = 1.0f / 512;

// Of a block of the head, and the opacity that all of its first and its last row stay below where the others
// are left out: a byte's step.
constexpr int kBlock = 8;
constexpr float kClose = 0.4f;
constexpr float kFaint = 1.0f / 256;

// What a network says of a tile's pixels.
struct Seen {
  float color[3 * kTile];  // premultiplied, a pixel's three together
  float alpha[kPlaces];    // in front of what is behind; none at knots
};

// A tile's pixels, whether or not the frame ends before, and behind them its knots. The list names those that
// a network evaluates, in order.
struct alignas(64) Tile {
  float pixel[2][kPlaces];
  float start[2][kPlaces];  // of lines in unit coordinates
  float slope[2][kPlaces];
  int32_t cell[kPlaces];  // of the map, or -1
  int32_t list[kTile];
  Seen head;
  Seen torso;
  float hidden[3 * kTile];   // what the head leaves of the torso,
  float through[3 * kTile];  // and both of the background, for each channel
  int64_t frame;
  int64_t column, row;  // of the first pixel
  int columns, rows;    // that the frame has of it
  int places;           // kPlaces, or kTile where knots aren't wanted
};

// What the warp net says at knots, and between them, each output's together.
struct Warped {
  float* knots;   // [outputs][kSparse]
  float* pixels;  // [outputs][kTile]
};

// The line of pixel i, and the cell of the head's map that it meets. Apart from the loop, for arrays that a
// loop's body declares keep compilers from making vectors of it.
NLDF_STAGE void find_head_at(const PortraitArgs& args, const RayCamera<float>& camera, Tile& tile, int i) {
  const float pixel[2] = {tile.pixel[0][i], tile.pixel[1][i]};
  float origin[3], direction[3], start[2], slope[2], unit[2];
  make_ray(camera, pixel, origin, direction);
  const float distance = -origin[2] / direction[2];
  for (int axis = 0; axis < 2; ++axis)
    unit[axis] = (origin[axis] + distance * direction[axis]) / args.half_size * 0.5f + 0.5f;
  const bool inside = (unit[0] >= 0.0f) & (unit[0] < 1.0f) & (unit[1] >= 0.0f) & (unit[1] < 1.0f);
  const int32_t cell = portrait_cell(unit[0], unit[1], static_cast<int32_t>(args.head.map.resolution));
  tile.cell[i] = inside ? cell : -1;
  planes_line(origin, direction, args.head.network.box, start, slope);
  tile.start[0][i] = start[0], tile.start[1][i] = start[1];
  tile.slope[0][i] = slope[0], tile.slope[1][i] = slope[1];
}

// All pixels of a tile.
NLDF_STAGE void find_head(const PortraitArgs& args, Tile& tile) {
  const RayCamera<float> camera = load_camera(args.pose, args.intrinsics, tile.frame);
  NLDF_LANES
  for (int i = 0; i < tile.places; ++i) find_head_at(args, camera, tile, i);
}

// Where the tile's pixels fall on the torso. Lines without slope.
NLDF_STAGE void find_torso(const PortraitArgs& args, Tile& tile) {
  const int32_t resolution = static_cast<int32_t>(args.torso.map.resolution);
  const float width = static_cast<float>(args.width);
  const float* const box = args.torso.network.box;
  const float* const m = args.motion + 6 * tile.frame;
  const float least = args.torso.network.int8_weights ? kHiddenInt8 : kPortraitHidden;
  NLDF_LANES
  for (int i = 0; i < tile.places; ++i) {
    const float x = tile.pixel[0][i] / width - m[4], y = tile.pixel[1][i] / width - m[5];
    const float unit_x = (m[0] * x + m[1] * y - box[0]) / (box[2] - box[0]);
    const float unit_y = (m[2] * x + m[3] * y - box[1]) / (box[3] - box[1]);
    tile.start[0][i] = unit_x, tile.start[1][i] = unit_y;
    tile.slope[0][i] = 0.0f, tile.slope[1][i] = 0.0f;
    const int32_t cell = portrait_cell(unit_x, unit_y, resolution);
    tile.cell[i] = 1.0f - tile.head.alpha[i] > least ? cell : -1;
  }
}

// Rounds to the nearest, halves to even, as torch does.
NLDF_STAGE uint8_t to_byte(float value) {
  const float scaled = value * 255.0f;
  const float held = scaled > 0.0f ? (scaled < 255.0f ? scaled : 255.0f) : 0.0f;
  constexpr float kWhole = 8388608.0f;
  return static_cast<uint8_t>(static_cast<int32_t>((held + kWhole) - kWhole));
}

NLDF_STAGE void compose(const PortraitArgs& args, Tile& tile) {
  for (int i = 0; i < kTile; ++i) {
    const float hidden = 1.0f - tile.head.alpha[i];
    const float through = 1.0f - (tile.head.alpha[i] + hidden * tile.torso.alpha[i]);
    for (int c = 0; c < 3; ++c) {
      tile.hidden[3 * i + c] = hidden;
      tile.through[3 * i + c] = through;
    }
  }
  for (int y = 0; y < tile.rows; ++y) {
    const int64_t first = (tile.row + y) * args.width + tile.column;
    const float* const under = args.background + 3 * first;
    uint8_t* const out = args.out + 3 * (tile.frame * args.width * args.height + first);
    const int begin = 3 * kSide * y;
    const auto fill = [&](int count) {
      NLDF_LANES
      for (int j = 0; j < count; ++j)
        out[j] = to_byte(tile.head.color[begin + j] + tile.hidden[begin + j] * tile.torso.color[begin + j] +
                         tile.through[begin + j] * under[j]);
    };
    tile.columns == kSide ? fill(3 * kSide) : fill(3 * tile.columns);
  }
}

// From the warp's outputs at knots to those of all pixels.
NLDF_STAGE void spread(int64_t outputs, const Warped& warp) {
  for (int64_t c = 0; c < outputs; ++c) {
    for (int y = 0; y < kSide; ++y) {
      const float* const above = warp.knots + c * kSparse + y / 2 * kKnots;
      const float* const below = above + y % 2 * kKnots;
      float* const to = warp.pixels + c * kTile + y * kSide;
      float sum[kKnots];
      NLDF_LANES
      for (int i = 0; i < kKnots; ++i) sum[i] = 0.5f * (above[i] + below[i]);
      NLDF_LANES
      for (int i = 0; i < kSide / 2; ++i) {
        to[2 * i] = sum[i];
        to[2 * i + 1] = 0.5f * (sum[i] + sum[i + 1]);
      }
    }
  }
}

struct Stages {
  void (*head)(const PortraitArgs&, Tile&);
  void (*torso)(const PortraitArgs&, Tile&);
  void (*compose)(const PortraitArgs&, Tile&);
  void (*spread)(int64_t, const Warped&);
};
#define NLDF_STAGES(target, of)                                    \
  target void head_##of(const PortraitArgs& args, Tile& tile) {    \
    find_head(args, tile);                                         \
  }                                                                \
  target void torso_##of(const PortraitArgs& args, Tile& tile) {   \
    find_torso(args, tile);                                        \
  }                                                                \
  target void compose_##of(const PortraitArgs& args, Tile& tile) { \
    compose(args, tile);                                           \
  }                                                                \
  target void spread_##of(int64_t outputs, const Warped& warp) {   \
    spread(outputs, warp);                                         \
  }                                                                \
  constexpr Stages k##of {                                         \
    head_##of, torso_##of, compose_##of, spread_##of               \
  }
NLDF_STAGES(, Plain);
NLDF_STAGES(NLDF_WIDE, Wide);

// The centres of the tile's pixels and of its knots.
void place(Tile& tile) {
  const auto put = [&](int first, int side, int step) {
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x, ++first) {
        tile.pixel[0][first] = static_cast<float>(tile.column + step * x) + 0.5f;
        tile.pixel[1][first] = static_cast<float>(tile.row + step * y) + 0.5f;
      }
    }
  };
  put(0, kSide, 1);
  if (tile.places == kPlaces) put(kTile, kKnots, 2);
}

// The pixels in marked cells, and their number; all are transparent as yet.
int choose(const PortraitMap& map, Tile& tile, Seen& seen) {
  int count = 0;
  for (int y = 0; y < tile.rows; ++y) {
    for (int i = y * kSide; i < y * kSide + tile.columns; ++i) {
      const int32_t cell = tile.cell[i];
      tile.list[count] = i;
      count += cell >= 0 && map.cells[cell];
    }
  }
  std::fill(seen.color, seen.color + 3 * kTile, 0.0f);
  std::fill(seen.alpha, seen.alpha + kPlaces, 0.0f);
  return count;
}

// Some of a tile's places, a group at most.
struct Places {
  const int32_t* list;
  int count;
  bool together;  // one behind the other, as in most groups

  Places(const int32_t* from, int number)
      : list(from), count(number), together(from[number - 1] - from[0] == number - 1) {}
  void gather(const float* from, float* to) const {
    if (together) {
      std::copy(from + list[0], from + list[0] + count, to);
    } else {
      for (int i = 0; i < count; ++i) to[i] = from[list[i]];
    }
  }
  void gather_lines(const Tile& tile, PlanesRays<float>& rays) const {
    rays.rows = count;
    for (int axis = 0; axis < 2; ++axis) {
      gather(tile.start[axis], rays.start[axis]);
      gather(tile.slope[axis], rays.slope[axis]);
    }
  }
};

// How far pixels lie apart in cells of the warp net's finest grid, where its layers are in 8 bits; else 1.
float spacing(const PlanesNetwork<float>& net, const Tile& tile) {
  if (!net.int8_weights || !net.warp_levels) return 1.0f;
  const float cells = static_cast<float>(net.warp_resolutions[net.warp_levels - 1] - 1);
  float most = 0.0f;
  for (int axis = 0; axis < 2; ++axis) {
    const auto at = [&](int i) { return tile.start[axis][i] + net.depths[net.planes] * tile.slope[axis][i]; };
    most = std::max({most, std::fabs(at(1) - at(0)), std::fabs(at(kSide) - at(0))});
  }
  return most * cells;
}

// What a network works in, in scalars: all but the last are whole vectors.
struct Sizes {
  int64_t out;  // a group's results, or the warp net's
  int64_t warp;
  int64_t work;
  int64_t pixels, knots;

  Sizes(const PlanesKernels<float>& isa, const PlanesNetwork<float>& net)
      : out(std::max(3 * net.planes + 1, net.warp_outputs()) * kPlanesGroup),
        warp(net.warp_outputs() * kPlanesGroup),
        work((isa.scratch(net) + 15) / 16 * 16),
        pixels(net.warp_outputs() * kTile),
        knots(net.warp_outputs() * kSparse) {}
  int64_t all() const { return out + warp + work + pixels + knots; }
};

// A network that draws, with its biases of a frame.
struct Drawn {
  const PlanesKernels<float>& isa;
  const PlanesModel<float>& model;
  const float *warp_bias, *bias;
  float *out, *group_warp, *work;
  Warped warp;

  Drawn(const PlanesKernels<float>& kernels, const PlanesModel<float>& drawing, const PortraitPart& part,
        int64_t frame, float* memory)
      : isa(kernels),
        model(drawing),
        warp_bias(part.warp_bias + frame * model.network.width),
        bias(part.bias + frame * model.network.width),
        out(memory) {
    const Sizes sizes(isa, model.network);
    group_warp = out + sizes.out;
    work = group_warp + sizes.warp;
    warp.pixels = work + sizes.work;
    warp.knots = warp.pixels + sizes.pixels;
  }
};

// The warp at the knots about the chosen pixels.
void warp_knots(const Drawn& drawn, const Tile& tile, int chosen) {
  bool wanted[kSparse];
  std::fill(wanted, wanted + kSparse, chosen == kTile);
  for (int k = 0; k < chosen && chosen < kTile; ++k) {
    const uint32_t at = static_cast<uint32_t>(tile.list[k]), x = at % kSide, y = at / kSide;
    bool* const knot = wanted + y / 2 * kKnots + x / 2;
    knot[0] = knot[x % 2] = knot[y % 2 * kKnots] = knot[y % 2 * kKnots + x % 2] = true;
  }
  int32_t list[kSparse];
  int count = 0;
  for (int i = 0; i < kSparse; ++i) {
    list[count] = kTile + i;
    count += wanted[i];
  }
  const int64_t outputs = drawn.model.network.warp_outputs();
  std::fill(drawn.warp.knots, drawn.warp.knots + outputs * kSparse, 0.0f);
  PlanesRays<float> rays{};
  for (int first = 0; first < count; first += drawn.isa.group) {
    const Places some(list + first, std::min(drawn.isa.group, count - first));
    some.gather_lines(tile, rays);
    drawn.isa.run_warp(drawn.model, rays, drawn.warp_bias, drawn.out, drawn.work);
    for (int64_t c = 0; c < outputs; ++c) {
      float* const to = drawn.warp.knots + c * kSparse - kTile;
      for (int i = 0; i < some.count; ++i) to[some.list[i]] = drawn.out[c * kPlanesGroup + i];
    }
  }
}

// A network on the chosen pixels of a tile: `at` gives colour and opacity of some of them.
class Evaluation {
 public:
  Evaluation(const Stages& stages, const Drawn& drawn, int chosen, const Tile& tile)
      : drawn_(drawn), tile_(tile), spacing_(spacing(drawn.model.network, tile)) {
    slow_ = chosen && spacing_ < kSlow;
    if (!slow_) return;
    warp_knots(drawn, tile, chosen);
    stages.spread(drawn.model.network.warp_outputs(), drawn.warp);
  }

  // Whether a block is small beside what is seen.
  bool close() const { return spacing_ < kClose; }

  // Those from `first` to before `last` in the list.
  void at(int first, int last, Seen& seen) const {
    const PlanesNetwork<float>& net = drawn_.model.network;
    const int planes = static_cast<int>(net.planes);
    float* const out = drawn_.out;
    PlanesRays<float> rays{};
    rays.warp = slow_ ? drawn_.group_warp : nullptr;
    for (; first < last; first += drawn_.isa.group) {
      const Places some(tile_.list + first, std::min(drawn_.isa.group, last - first));
      const int32_t* const list = some.list;
      some.gather_lines(tile_, rays);
      for (int64_t c = 0; slow_ && c < net.warp_outputs(); ++c)
        some.gather(drawn_.warp.pixels + c * kTile, drawn_.group_warp + c * kPlanesGroup);
      drawn_.isa.run(drawn_.model, rays, drawn_.warp_bias, drawn_.bias, out, drawn_.work);
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

 private:
  const Drawn& drawn_;
  const Tile& tile_;
  float spacing_;
  bool slow_;
};

// The block of a pixel.
uint32_t block_of(uint32_t pixel) {
  return pixel / kSide / kBlock * (kSide / kBlock) + pixel % kSide / kBlock;
}

// Moves the chosen pixels in the first and the last rows of blocks to the list's beginning; their number.
int edges_first(Tile& tile, int chosen) {
  int32_t others[kTile];
  int edges = 0, rest = 0;
  for (int k = 0; k < chosen; ++k) {
    const int32_t pixel = tile.list[k], row = pixel / kSide;
    const bool edge = (row + 1) % kBlock < 2 || row + 1 == tile.rows;
    tile.list[edges] = others[rest] = pixel;
    edges += edge, rest += !edge;
  }
  std::copy(others, others + rest, tile.list + edges);
  return edges;
}

// Leaves out what is behind these in the list and in blocks of which they show nothing; the list's length.
int keep_shown(Tile& tile, const Seen& seen, int edges, int chosen) {
  bool shown[kTile / (kBlock * kBlock)] = {};
  for (int k = 0; k < edges; ++k)
    shown[block_of(static_cast<uint32_t>(tile.list[k]))] |= seen.alpha[tile.list[k]] >= kFaint;
  int kept = edges;
  for (int k = edges; k < chosen; ++k) {
    const int32_t pixel = tile.list[k];
    tile.list[kept] = pixel;
    kept += shown[block_of(static_cast<uint32_t>(pixel))];
  }
  return kept;
}

}  // namespace

void portrait_cpu(const PortraitArgs& args, const Exec& exec) {
  const PlanesKernels<float>& isa = planes_kernels(0.0f);
  const PlanesModel<float> head(args.head.network);
  const PlanesModel<float> torso(args.has_torso ? args.torso.network : args.head.network);
  const int64_t size = std::max(Sizes(isa, head.network).all(), Sizes(isa, torso.network).all());
  constexpr int64_t held = sizeof(Tile) / sizeof(float);
  const Stages& stages = NLDF_HAS_WIDE ? kWide : kPlain;
  const bool sparse = head.network.int8_weights || torso.network.int8_weights;
  const int64_t across = (args.width + kSide - 1) / kSide,
                tiles = across * ((args.height + kSide - 1) / kSide);
  const auto draw = [&](int64_t number) {
    float* const memory = scratch<float>(held + size);
    Tile& tile = *new (memory) Tile;
    tile.frame = number / tiles;
    tile.column = number % tiles % across * kSide;
    tile.row = number % tiles / across * kSide;
    tile.columns = static_cast<int>(std::min<int64_t>(kSide, args.width - tile.column));
    tile.rows = static_cast<int>(std::min<int64_t>(kSide, args.height - tile.row));
    tile.places = sparse ? kPlaces : kTile;
    place(tile);
    stages.head(args, tile);
    const int met = choose(args.head.map, tile, tile.head);
    {
      const Drawn drawn(isa, head, args.head, tile.frame, memory + held);
      const Evaluation evaluation(stages, drawn, met, tile);
      const int edges = evaluation.close() ? edges_first(tile, met) : met;
      evaluation.at(0, edges, tile.head);
      evaluation.at(edges, keep_shown(tile, tile.head, edges, met), tile.head);
    }
    if (args.has_torso) {
      stages.torso(args, tile);
      const int shown = choose(args.torso.map, tile, tile.torso);
      const Drawn drawn(isa, torso, args.torso, tile.frame, memory + held);
      Evaluation(stages, drawn, shown, tile).at(0, shown, tile.torso);
    } else {
      std::fill(tile.torso.color, tile.torso.color + 3 * kTile, 0.0f);
      std::fill(tile.torso.alpha, tile.torso.alpha + kPlaces, 0.0f);
    }
    stages.compose(args, tile);
  };
  parallel_for(args.frames * tiles, 1, exec.threads, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) draw(number);
  });
}

}  // namespace nldf
