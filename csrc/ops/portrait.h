// Whole frames in one pass each: background, learned torso, grid-encoded head, to bytes.
//
// For every pixel: its ray, whether the ray may meet the head (an occupancy map on the plane z = 0 of head
// space) and whether the pixel may show the torso (one over its box); both networks where they are needed;
//
//   picture = head + (1 - alpha_head) torso + (1 - alpha) background,
//   alpha = alpha_head + (1 - alpha_head) alpha_torso.
//
// The torso is the same kind of network with one plane, for points instead of rays: lines without slope.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "ops/planes.h"
#include "ops/rays.h"

namespace nldf {

// What an occupancy map says: [resolution, resolution] cells, rows along y.
struct PortraitMap {
  NLDF_FIELDS((const uint8_t*, cells), (int64_t, resolution));
};

// A network, the biases of each frame, and where it is needed. Tables and weights are `Stored`, as planes.h
// says.
template <class Stored>
struct PortraitPartOf {
  using Network = PlanesNetwork<float, Stored>;
  NLDF_FIELDS((Network, network),         // of rays, or of points
              (const float*, warp_bias),  // [F, width]
              (const float*, bias),       // [F, width]
              (PortraitMap, map));
};

template <class Stored>
struct PortraitArgsOf {
  NLDF_FIELDS((const float*, pose),        // [F, 4, 4] camera to head
              (const float*, intrinsics),  // [F, 4] fx, fy, cx, cy in pixels
              (const float*, motion),      // [F, 6] of a frame's point p to the torso's: inverse (p - shift),
                                           // inverse row by row, then shift; in units of the frame's width
              (const float*, background),  // [H, W, 3], of all frames
              (uint8_t*, out),             // [F, H, W, 3]
              (PortraitPartOf<Stored>, head),   // in front of the torso
              (PortraitPartOf<Stored>, torso),  // not read unless has_torso
              (int64_t, has_torso),             // 0 or 1
              (float, half_size),               // of the square that the head's map covers, metres
              (int64_t, frames),                // F
              (int64_t, width), (int64_t, height));
};

using PortraitPart = PortraitPartOf<float>;
using PortraitArgs = PortraitArgsOf<float>;
using PortraitHalfArgs = PortraitArgsOf<Half>;

// A torso that shows less than this behind the head is not evaluated: a sixteenth of a byte's step.
constexpr float kPortraitHidden = 1.0f / 4096;

// Unit coordinates to a map's cell; those outside go to the border. NaN gives cell 0.
NLDF_HD int32_t portrait_cell(float x, float y, int32_t resolution) {
  constexpr float kLast = 0.999999f;
  const float scale = static_cast<float>(resolution);
  const float held_x = x > 0.0f ? (x < kLast ? x : kLast) : 0.0f;
  const float held_y = y > 0.0f ? (y < kLast ? y : kLast) : 0.0f;
  return static_cast<int32_t>(held_y * scale) * resolution + static_cast<int32_t>(held_x * scale);
}

void portrait_cpu(const PortraitArgs& args, const Exec& exec);
void portrait_cuda(const PortraitHalfArgs& args, const Exec& exec);

}  // namespace nldf
