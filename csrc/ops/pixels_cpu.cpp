#include "ops/pixels.h"

#include <algorithm>
#include <cmath>

namespace nldf {

namespace {

// A whole number below `count`, of a number from [0, 1).
int64_t below(float even, int64_t count) {
  return std::min(static_cast<int64_t>(static_cast<double>(even) * static_cast<double>(count)), count - 1);
}

// The number of the pixel that is number `k` of those that `wanted` takes; `sums` [H] counts them by rows.
template <class Wanted>
int64_t find(const uint8_t* labels, const int32_t* sums, int64_t height, int64_t width, int64_t k,
             const Wanted& wanted) {
  const int64_t row = std::upper_bound(sums, sums + height, static_cast<int32_t>(k)) - sums;
  int64_t left = k - (row ? sums[row - 1] : 0), i = row * width;
  constexpr int64_t kBlock = 16;  // counted at once
  for (const int64_t end = i + width; i + kBlock <= end; i += kBlock) {
    int64_t found = 0;
    for (int64_t j = 0; j < kBlock; ++j) found += wanted(labels[i + j]);
    if (found > left) break;
    left -= found;
  }
  for (;; ++i)
    if (wanted(labels[i]) && left-- == 0) return i;
}

constexpr int64_t kRows = 1;  // of rays, in a piece of work

}  // namespace

void pixels_cpu(const PixelsArgs& args, const Exec& exec) {
  const int64_t every = args.height * args.width;
  parallel_for(args.count, kRows, exec.threads, [&](int64_t f, int64_t) {
    const int64_t frame = args.frames[f];
    const uint8_t* const labels = args.labels + frame * every;
    const int32_t* const speaker = args.speaker + frame * args.height;
    const int32_t* const own = args.own + frame * args.height;
    const float* even = args.even + 2 * f * args.drawn;
    int64_t* to = args.pixels + f * args.drawn;
    const auto part = [&](int64_t number, const auto& each) {
      for (int64_t i = 0; i < args.parts[number]; ++i, even += 2) *to++ = each();
    };
    for (int64_t b = 0; b < 3; ++b) {
      const int64_t* const box = args.boxes + (b * args.total + frame) * 4;
      part(b, [&] {
        const int64_t x = box[0] + below(even[0], box[2] - box[0] + 1);
        return (box[1] + below(even[1], box[3] - box[1] + 1)) * args.width + x;
      });
    }
    const auto anywhere = [&] { return below(even[0], every); };
    const auto among = [&](int64_t number, const int32_t* sums, const auto& wanted) {
      const int64_t all = sums[args.height - 1];
      if (!all) return part(number, anywhere);
      part(number, [&] { return find(labels, sums, args.height, args.width, below(even[0], all), wanted); });
    };
    among(3, speaker, [&](uint8_t label) { return label != args.background; });
    part(4, anywhere);
    among(5, own, [&](uint8_t label) { return (args.labels_own >> label & 1) != 0; });
  });
}

void pixels_look_cpu(const PixelsLookArgs& args, const Exec& exec) {
  const int64_t width = args.width, height = args.height, every = height * width;
  const float unit = static_cast<float>(width);
  parallel_for(args.count, kRows, exec.threads, [&](int64_t f, int64_t) {
    const int64_t frame = args.frames[f];
    const uint8_t* const labels = args.labels + frame * every;
    // From the frame to the plate.
    const float* const m = args.motions + 6 * frame;
    const float size = m[0] * m[4] - m[1] * m[3];
    const float back[4] = {m[4] / size, -m[1] / size, -m[3] / size, m[0] / size};
    for (int64_t i = f * args.drawn; i < (f + 1) * args.drawn; ++i) {
      const int64_t pixel = args.pixels[i], x = pixel % width, y = pixel / width;
      const uint8_t label = labels[pixel];
      const uint8_t* const picture = args.pictures + (frame * every + pixel) * 3;
      for (int c = 0; c < 3; ++c) {
        args.target[3 * i + c] = static_cast<float>(picture[c]) / 255.0f;
        args.behind[3 * i + c] = args.background[3 * pixel + c];
      }
      args.points[2 * i] = static_cast<float>(x) + 0.5f,
                      args.points[2 * i + 1] = static_cast<float>(y) + 0.5f;
      args.seen[i] = label;
      args.mask[i] = args.labels_own >> label & 1 ? 1.0f : 0.0f;
      const int64_t left = std::max<int64_t>(x - args.reach, 0), right = std::min(x + args.reach, width - 1);
      const int64_t above = std::max<int64_t>(y - args.reach, 0),
                    under = std::min(y + args.reach, height - 1);
      const auto speaker = [&](int64_t column, int64_t row) {
        return labels[row * width + column] != args.background_label;
      };
      const bool inside = speaker(left, y) && speaker(right, y) && speaker(x, above) && speaker(x, under);
      args.interior[i] = inside ? 1.0f : 0.0f;
      const float dx = args.points[2 * i] / unit - m[2], dy = args.points[2 * i + 1] / unit - m[5];
      const auto held = [](float at, int64_t size) {
        return std::min(std::max(at, 0.0f), static_cast<float>(size - 1));
      };
      const float u = held((back[0] * dx + back[1] * dy) * unit - 0.5f, width);
      const float v = held((back[2] * dx + back[3] * dy) * unit - 0.5f, height);
      const int64_t column = static_cast<int64_t>(u), row = static_cast<int64_t>(v);
      const float right_share = u - static_cast<float>(column), low_share = v - static_cast<float>(row);
      const int64_t next = std::min(column + 1, width - 1), below_row = std::min(row + 1, height - 1);
      float mixed[4];
      for (int c = 0; c < 4; ++c) {
        const auto at = [&](int64_t r, int64_t k) { return args.plate[4 * (r * width + k) + c]; };
        const float upper = at(row, column) + right_share * (at(row, next) - at(row, column));
        const float lower =
            at(below_row, column) + right_share * (at(below_row, next) - at(below_row, column));
        mixed[c] = upper + low_share * (lower - upper);
      }
      for (int c = 0; c < 3; ++c) args.guess[3 * i + c] = mixed[c] * mixed[3];
      args.dense[i] = mixed[3];
    }
  });
}

}  // namespace nldf
