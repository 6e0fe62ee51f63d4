// Pixels of a training video: which ones a step sees, and what is known of them. On the CPU, where videos
// are.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

// A row's pixels are drawn part by part: from three boxes, from what is not background, from the whole frame,
// and from what has one of the labels `own`. Where a frame has none of what is asked for, from the whole
// frame.
struct PixelsArgs {
  NLDF_FIELDS((const float*, even),       // [F, P, 2] drawn evenly from [0, 1)
              (const int64_t*, frames),   // [F]
              (const uint8_t*, labels),   // [T, H, W]
              (const int32_t*, speaker),  // [T, H] pixels that are not background, in this row and above
              (const int32_t*, own),      // [T, H] the same of those with one of the labels `own`
              (const int64_t*, boxes),    // [3, T, 4] x0, y0, x1, y1, rims included
              (const int64_t*,
               parts),             // [6] how many of each, P together: box by box, then as above; on the host
              (int64_t*, pixels),  // [F, P]
              (int64_t, count),    // F
              (int64_t, drawn),    // P
              (int64_t, total), (int64_t, height), (int64_t, width), (int64_t, background),  // the label
              (int64_t, labels_own));  // a bit for each label
};

// Arrays of one memory, one behind the other, so that they go to a device as one: floats, then bytes.
struct PixelsLookArgs {
  NLDF_FIELDS((const float*, background),  // [H, W, 3]
              (const int64_t*, frames),    // [F]
              (const int64_t*, pixels),    // [F, P]
              (const uint8_t*, pictures),  // [T, H, W, 3]
              (const uint8_t*, labels),    // [T, H, W]
              (const float*, plate),       // [H, W, 4] colour and opacity of a torso
              (const float*, motions),     // [T, 2, 3] the plate's, in units of the width
              (float*, target),            // [F, P, 3]
              (float*, behind),            // [F, P, 3]
              (float*, points),            // [F, P, 2] the pixels' middles
              (float*, mask),              // [F, P] 1 where the label is among `labels_own`
              (float*, interior),          // [F, P] 1 where all pixels `reach` away are the speaker's, else 0
              (float*, guess),             // [F, P, 3] the plate's colour times its opacity
              (float*, dense),             // [F, P] and its opacity
              (uint8_t*, seen),            // [F, P] labels
              (int64_t, count), (int64_t, drawn), (int64_t, height), (int64_t, width),  // F, P, H, W
              (int64_t, reach), (int64_t, background_label), (int64_t, labels_own));
};

void pixels_cpu(const PixelsArgs& args, const Exec& exec);
void pixels_look_cpu(const PixelsLookArgs& args, const Exec& exec);

}  // namespace nldf
