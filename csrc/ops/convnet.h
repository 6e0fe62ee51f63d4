// Small convolutional networks on pictures: a list of steps over one block of memory, run in one call. So
// what a step costs beside its arithmetic is a branch.
//
// A tensor lies as [height][width][channels], its channels filled up with zeros to whole panels; so every
// loop over channels is of whole vectors. Tensors that are not needed at the same time share memory.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr int64_t kConvnetPanel = 16;  // channels whose weights lie together

enum class ConvnetKind : int64_t {
  convolution,  // weights [outputs / panel][kernel * kernel * channels][panel]
  depthwise,    // weights [channels / panel][kernel * kernel][panel]
  add,
  multiply,  // each channel of `a` by one number of `b`
  maximum,   // of two by two
  mean,      // of each channel
  resize,    // bilinear, pixel centres at halves
  hard_swish,
  sigmoid,
  region,  // landmarks to a matrix [2][3]; see convnet_region
  sample,  // `a` at the pixels of the matrix `b`
  output,  // what the caller is given: `channels` numbers of each pixel
  relu6    // between 0 and 6
};

// Offsets count numbers; those of tensors into the memory, where -1 is the picture for `a` and nothing for
// `b`; those of weights into the weights, where -1 is nothing.
struct ConvnetStep {
  int64_t kind, a, b, out;
  int64_t height, width, channels;              // of `a`
  int64_t out_height, out_width, out_channels;  // of `out`
  int64_t b_channels;                           // of what is added; those behind are left as they are
  int64_t kernel, stride, top, left;            // zeros above and left of the picture
  int64_t weights, bias, slopes;                // y < 0 becomes y times its channel's slope
};
constexpr int64_t kConvnetStepFields = sizeof(ConvnetStep) / sizeof(int64_t);

struct ConvnetArgs {
  NLDF_FIELDS((const float*, pictures),           // [B, S, S, 3]
              (const float*, weights),            //
              (const int64_t*, steps),            // [N, kConvnetStepFields]
              (float*, out),                      // [B, numbers]
              (int64_t, batch), (int64_t, size),  // B, S
              (int64_t, count), (int64_t, memory), (int64_t, numbers));
};

void convnet_cpu(const ConvnetArgs& args, const Exec& exec);

}  // namespace nldf
