// The steps of small convolutional networks in vectors of any size; vectors are of channels.
//
// Unnamed namespace: see core/lanes.h.
#pragma once

#include <cstring>

#include "core/lanes.h"
#include "core/maths.h"
#include "ops/convnet_kernels.h"

namespace nldf {
namespace {

inline int64_t convnet_wide(int64_t channels) {
  return (channels + kConvnetPanel - 1) / kConvnetPanel * kConvnetPanel;
}

inline int64_t convnet_least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

template <int Bytes>
struct Convnet {
  typedef float Vector __attribute__((vector_size(Bytes)));
  static constexpr int lanes = Bytes / 4;
  static constexpr int parts = kConvnetPanel / lanes;  // vectors of a panel
  static constexpr int rows = Bytes == 64 ? 12 : Bytes == 32 ? 6 : 3;
  static_assert(rows <= kConvnetRows, "rows are gathered");

  static Vector load(const float* from) {
    Vector x;
    memcpy(&x, from, sizeof(x));
    return x;
  }
  static void store(float* to, Vector x) { memcpy(to, &x, sizeof(x)); }

  // What stands behind the sums of a step: something added, and slopes.
  struct End {
    const float* added;  // null where nothing is
    int64_t added_wide;  // its channels, filled up
    const float* slopes;
    End(const ConvnetStep& s, const float* weights, const float* memory)
        : added(s.b < 0 ? nullptr : memory + s.b),
          added_wide(convnet_wide(s.b_channels)),
          slopes(s.slopes < 0 ? nullptr : weights + s.slopes) {}
    Vector operator()(Vector y, int64_t pixel, int64_t channel) const {
      if (added && channel < added_wide) y += load(added + pixel * added_wide + channel);
      if (slopes) {
        const Vector less = y * load(slopes + channel);
        y = Vector{} > y ? less : y;
      }
      return y;
    }
  };

  // Rows rows of inputs times Panels panels of outputs.
  template <int Rows, int Panels>
  static void block(const float* x, int64_t stride, int64_t inputs, const float* w, const float* bias,
                    const End& end, int64_t pixel, int64_t channel, float* out, int64_t out_wide) {
    constexpr int count = Panels * parts;
    Vector sum[Rows][count];
    NLDF_UNROLL
    for (int v = 0; v < count; ++v) {
      const Vector b = load(bias + channel + v * lanes);
      NLDF_UNROLL
      for (int r = 0; r < Rows; ++r) sum[r][v] = b;
    }
    for (int64_t k = 0; k < inputs; ++k) {
      Vector each[count];
      NLDF_UNROLL
      for (int v = 0; v < count; ++v)
        each[v] = load(w + (v / parts * inputs + k) * kConvnetPanel + v % parts * lanes);
      NLDF_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const float a = x[r * stride + k];
        NLDF_UNROLL
        for (int v = 0; v < count; ++v) sum[r][v] += each[v] * a;
      }
    }
    NLDF_UNROLL
    for (int r = 0; r < Rows; ++r) {
      NLDF_UNROLL
      for (int v = 0; v < count; ++v) {
        const int64_t c = channel + v * lanes;
        store(out + (pixel + r) * out_wide + c, end(sum[r][v], pixel + r, c));
      }
    }
  }

  template <int Rows>
  static void all_panels(const float* x, int64_t stride, int64_t inputs, const float* w, const float* bias,
                         const End& end, int64_t pixel, float* out, int64_t out_wide) {
    constexpr int most = Bytes == 64 ? 2 : 1;
    int64_t c = 0;
    for (; c + most * kConvnetPanel <= out_wide; c += most * kConvnetPanel)
      block<Rows, most>(x, stride, inputs, w + c * inputs, bias, end, pixel, c, out, out_wide);
    for (; c < out_wide; c += kConvnetPanel)
      block<Rows, 1>(x, stride, inputs, w + c * inputs, bias, end, pixel, c, out, out_wide);
  }

  // Inputs of one output: `kernel` rows of pixels, each without the channels' filling.
  static void gather(const ConvnetStep& s, const float* x, int64_t wide, int64_t pixel, float* to) {
    const int64_t y = pixel / s.out_width * s.stride - s.top, x0 = pixel % s.out_width * s.stride - s.left;
    for (int64_t ky = 0; ky < s.kernel; ++ky) {
      for (int64_t kx = 0; kx < s.kernel; ++kx, to += s.channels) {
        const int64_t iy = y + ky, ix = x0 + kx;
        const bool inside = iy >= 0 && iy < s.height && ix >= 0 && ix < s.width;
        if (inside) memcpy(to, x + (iy * s.width + ix) * wide, sizeof(float) * s.channels);
        if (!inside) memset(to, 0, sizeof(float) * s.channels);
      }
    }
  }

  static void convolution(const ConvnetStep& s, const float* picture, const float* weights, float* memory,
                          float* gathered) {
    const float* const a = s.a < 0 ? picture : memory + s.a;
    const int64_t wide = s.a < 0 ? s.channels : convnet_wide(s.channels);
    const int64_t inputs = s.kernel * s.kernel * s.channels, out_wide = convnet_wide(s.out_channels);
    const int64_t pixels = s.out_height * s.out_width;
    const float *const w = weights + s.weights, *const bias = weights + s.bias;
    float* const out = memory + s.out;
    const End end(s, weights, memory);
    const bool plain = s.kernel == 1 && s.stride == 1;
    for (int64_t pixel = 0; pixel < pixels;) {
      const int64_t left = pixels - pixel, step = left >= rows ? rows : left >= 3 ? 3 : 1;
      const float* x = a + pixel * wide;
      if (!plain) {
        for (int64_t r = 0; r < step; ++r) gather(s, a, wide, pixel + r, gathered + r * inputs);
        x = gathered;
      }
      const int64_t stride = plain ? wide : inputs;
      if (step == rows) {
        all_panels<rows>(x, stride, inputs, w, bias, end, pixel, out, out_wide);
      } else if (step == 3) {
        all_panels<3>(x, stride, inputs, w, bias, end, pixel, out, out_wide);
      } else {
        all_panels<1>(x, stride, inputs, w, bias, end, pixel, out, out_wide);
      }
      pixel += step;
    }
  }

  template <int Kernel>
  static void depthwise(const ConvnetStep& s, const float* weights, float* memory) {
    const int64_t wide = convnet_wide(s.channels);
    const float *const x = memory + s.a, *const bias = weights + s.bias;
    float* const out = memory + s.out;
    const End end(s, weights, memory);
    for (int64_t c = 0; c < wide; c += lanes) {
      const float* const w =
          weights + s.weights + c / kConvnetPanel * (Kernel * Kernel * kConvnetPanel) + c % kConvnetPanel;
      const Vector b = load(bias + c);
      for (int64_t oy = 0; oy < s.out_height; ++oy) {
        const int64_t y = oy * s.stride - s.top;
        const int64_t first = y < 0 ? -y : 0, last = convnet_least(Kernel, s.height - y);
        for (int64_t ox = 0; ox < s.out_width; ++ox) {
          const int64_t x0 = ox * s.stride - s.left;
          const float* const from = x + (y * s.width + x0) * wide + c;
          Vector sum = b;
          if (first == 0 && last == Kernel && x0 >= 0 && x0 + Kernel <= s.width) {
            NLDF_UNROLL
            for (int ky = 0; ky < Kernel; ++ky) {
              NLDF_UNROLL
              for (int kx = 0; kx < Kernel; ++kx)
                sum += load(from + (ky * s.width + kx) * wide) * load(w + (ky * Kernel + kx) * kConvnetPanel);
            }
          } else {
            const int64_t begin = x0 < 0 ? -x0 : 0, stop = convnet_least(Kernel, s.width - x0);
            for (int64_t ky = first; ky < last; ++ky)
              for (int64_t kx = begin; kx < stop; ++kx)
                sum += load(from + (ky * s.width + kx) * wide) * load(w + (ky * Kernel + kx) * kConvnetPanel);
          }
          const int64_t pixel = oy * s.out_width + ox;
          store(out + pixel * wide + c, end(sum, pixel, c));
        }
      }
    }
  }

  // Calls make(x, pixel, channel) for every vector of `a`.
  template <class Make>
  static void each(const ConvnetStep& s, float* memory, const Make& make) {
    const int64_t wide = convnet_wide(s.channels), pixels = s.height * s.width;
    const float* a = memory + s.a;
    float* out = memory + s.out;
    for (int64_t pixel = 0; pixel < pixels; ++pixel)
      for (int64_t c = 0; c < wide; c += lanes, a += lanes, out += lanes) store(out, make(load(a), pixel, c));
  }

  // Channels that `a` lacks of the sum are what is added.
  static void add(const ConvnetStep& s, const float* weights, float* memory) {
    const End end(s, weights, memory);
    each(s, memory, [&](Vector x, int64_t pixel, int64_t c) { return end(x, pixel, c); });
  }

  static Vector relu6(Vector x) {
    const Vector six = Vector{} + 6.0f, positive = Vector{} > x ? Vector{} : x;
    return positive > six ? six : positive;
  }

  static void maximum(const ConvnetStep& s, float* memory) {
    const int64_t wide = convnet_wide(s.channels), row = s.width * wide;
    float* out = memory + s.out;
    for (int64_t y = 0; y < s.out_height; ++y) {
      for (int64_t x = 0; x < s.out_width; ++x) {
        const float* from = memory + s.a + 2 * y * row + 2 * x * wide;
        for (int64_t c = 0; c < wide; c += lanes, from += lanes, out += lanes) {
          const Vector p = load(from), q = load(from + wide), r = load(from + row),
                       t = load(from + row + wide);
          const Vector above = p > q ? p : q, below = r > t ? r : t;
          store(out, above > below ? above : below);
        }
      }
    }
  }

  // Row by row: one sum over a picture's thousands of pixels would lose what they differ by.
  static void mean(const ConvnetStep& s, float* memory) {
    const int64_t wide = convnet_wide(s.channels);
    for (int64_t c = 0; c < wide; c += lanes) {
      const float* from = memory + s.a + c;
      Vector sum{};
      for (int64_t y = 0; y < s.height; ++y) {
        Vector row{};
        for (int64_t x = 0; x < s.width; ++x, from += wide) row += load(from);
        sum += row;
      }
      store(memory + s.out + c, sum / static_cast<float>(s.height * s.width));
    }
  }

  // Between which two of `size` an output lies, and how far from the first.
  struct Between {
    int64_t low, high;
    float share;
    Between(int64_t at, int64_t size, int64_t out_size) {
      const float exact =
          (static_cast<float>(at) + 0.5f) * static_cast<float>(size) / static_cast<float>(out_size) - 0.5f;
      const float place = exact > 0.0f ? exact : 0.0f;
      low = convnet_least(static_cast<int64_t>(place), size - 1);
      high = convnet_least(low + 1, size - 1);
      share = place - static_cast<float>(low);
    }
  };

  static Vector blend(const float* p, const float* q, const float* r, const float* t, float x, float y) {
    const Vector above = load(p) + (load(q) - load(p)) * x, below = load(r) + (load(t) - load(r)) * x;
    return above + (below - above) * y;
  }

  static void resize(const ConvnetStep& s, float* memory) {
    const int64_t wide = convnet_wide(s.channels);
    const float* const a = memory + s.a;
    float* out = memory + s.out;
    for (int64_t y = 0; y < s.out_height; ++y) {
      const Between rows_of(y, s.height, s.out_height);
      const float *const above = a + rows_of.low * s.width * wide, *const below =
                                                                       a + rows_of.high * s.width * wide;
      for (int64_t x = 0; x < s.out_width; ++x) {
        const Between at(x, s.width, s.out_width);
        for (int64_t c = 0; c < wide; c += lanes, out += lanes)
          store(out, blend(above + at.low * wide + c, above + at.high * wide + c, below + at.low * wide + c,
                           below + at.high * wide + c, at.share, rows_of.share));
      }
    }
  }

  static void sigmoid(const ConvnetStep& s, float* memory) {
    const int64_t numbers = s.height * s.width * convnet_wide(s.channels);
    for (int64_t k = 0; k < numbers; ++k) memory[s.out + k] = 1.0f / (1.0f + exponential(-memory[s.a + k]));
  }

  // The box around some landmarks, turned so that two of them lie level, as the matrix [2][3] from the pixels
  // of a crop of it to the landmarks' own. Weights: left, right, factor of the landmarks, scale of the box,
  // pixels of the crop, number of landmarks, and these.
  static void region(const ConvnetStep& s, const float* weights, float* memory) {
    const float *const w = weights + s.weights, *const marks = memory + s.a;
    const float *const left = marks + 3 * static_cast<int64_t>(w[0]), *const right =
                                                                          marks +
                                                                          3 * static_cast<int64_t>(w[1]);
    const float factor = w[2], size = w[4];
    const float dx = right[0] - left[0], dy = right[1] - left[1], length = __builtin_sqrtf(dx * dx + dy * dy);
    const float cosine = length > 0 ? dx / length : 1, sine = length > 0 ? dy / length : 0;
    float low[2] = {1e30f, 1e30f}, high[2] = {-1e30f, -1e30f};
    for (int64_t k = 0; k < static_cast<int64_t>(w[5]); ++k) {
      const float* const mark = marks + 3 * static_cast<int64_t>(w[6 + k]);
      const float x = mark[0] * factor, y = mark[1] * factor;
      const float turned[2] = {cosine * x + sine * y, cosine * y - sine * x};
      for (int i = 0; i < 2; ++i) {
        low[i] = turned[i] < low[i] ? turned[i] : low[i];
        high[i] = turned[i] > high[i] ? turned[i] : high[i];
      }
    }
    const float u = (low[0] + high[0]) / 2, v = (low[1] + high[1]) / 2;
    const float across = (high[0] - low[0]) * w[3] / size, down = (high[1] - low[1]) * w[3] / size;
    float* const m = memory + s.out;
    m[0] = cosine * across;
    m[1] = -sine * down;
    m[2] = cosine * u - sine * v - (m[0] + m[1]) * size / 2;
    m[3] = sine * across;
    m[4] = cosine * down;
    m[5] = sine * u + cosine * v - (m[3] + m[4]) * size / 2;
  }

  static void sample(const ConvnetStep& s, float* memory) {
    const int64_t wide = convnet_wide(s.channels);
    const float *const a = memory + s.a, *const m = memory + s.b;
    float* out = memory + s.out;
    for (int64_t oy = 0; oy < s.out_height; ++oy) {
      for (int64_t ox = 0; ox < s.out_width; ++ox) {
        const float px = static_cast<float>(ox) + 0.5f, py = static_cast<float>(oy) + 0.5f;
        const float x = m[0] * px + m[1] * py + m[2] - 0.5f, y = m[3] * px + m[4] * py + m[5] - 0.5f;
        const bool inside =
            x >= 0 && y >= 0 && x <= static_cast<float>(s.width - 1) && y <= static_cast<float>(s.height - 1);
        const int64_t x0 = inside ? static_cast<int64_t>(x) : 0, y0 = inside ? static_cast<int64_t>(y) : 0;
        const int64_t x1 = convnet_least(x0 + 1, s.width - 1), y1 = convnet_least(y0 + 1, s.height - 1);
        const float *const above = a + y0 * s.width * wide, *const below = a + y1 * s.width * wide;
        for (int64_t c = 0; c < wide; c += lanes, out += lanes) {
          const Vector found =
              blend(above + x0 * wide + c, above + x1 * wide + c, below + x0 * wide + c,
                    below + x1 * wide + c, x - static_cast<float>(x0), y - static_cast<float>(y0));
          store(out, inside ? found : Vector{});
        }
      }
    }
  }

  static void output(const ConvnetStep& s, const float* memory, float* out) {
    const int64_t wide = convnet_wide(s.channels), pixels = s.height * s.width;
    for (int64_t pixel = 0; pixel < pixels; ++pixel)
      memcpy(out + s.out + pixel * s.channels, memory + s.a + pixel * wide, sizeof(float) * s.channels);
  }

  static void run(const ConvnetStep& s, const float* picture, const float* weights, float* memory, float* out,
                  float* gathered) {
    switch (static_cast<ConvnetKind>(s.kind)) {
      case ConvnetKind::convolution:
        return convolution(s, picture, weights, memory, gathered);
      case ConvnetKind::depthwise:
        return s.kernel == 3 ? depthwise<3>(s, weights, memory) : depthwise<5>(s, weights, memory);
      case ConvnetKind::add:
        return add(s, weights, memory);
      case ConvnetKind::multiply:
        return each(s, memory, [&](Vector x, int64_t, int64_t c) { return x * load(memory + s.b + c); });
      case ConvnetKind::maximum:
        return maximum(s, memory);
      case ConvnetKind::mean:
        return mean(s, memory);
      case ConvnetKind::resize:
        return resize(s, memory);
      case ConvnetKind::hard_swish:
        return each(s, memory,
                    [&](Vector x, int64_t, int64_t) { return x * relu6(x + 3.0f) * (1.0f / 6.0f); });
      case ConvnetKind::sigmoid:
        return sigmoid(s, memory);
      case ConvnetKind::region:
        return region(s, weights, memory);
      case ConvnetKind::sample:
        return sample(s, memory);
      case ConvnetKind::output:
        return output(s, memory, out);
      case ConvnetKind::relu6:
        return each(s, memory, [&](Vector x, int64_t, int64_t) { return relu6(x); });
    }
  }

  static constexpr ConvnetKernels kernels() { return {run}; }
};

}  // namespace
}  // namespace nldf
