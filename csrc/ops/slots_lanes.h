// Slot attention in vectors of any size; vectors are of points. A group of points passes through all of it
// within the second cache.
//
// Unnamed namespace: see core/lanes.h.
#pragma once

#include "core/layer.h"
#include "core/maths.h"
#include "core/transpose.h"
#include "ops/slots_kernels.h"

namespace nldf {
namespace {

inline float sigmoid(float x) {
  return 1.0f / (1.0f + exponential(-x));
}

template <class L>
struct Slots {
  static constexpr int n = L::group;  // points; features are rows of so many numbers

  // The weights of the layers, in their order.
  struct Layers {
    const float *weights, *biases;
    template <Store How>
    void next(const float* x, int64_t inputs, float* y, int64_t outputs) {
      const int64_t wide = kPanel * panels(outputs);
      layer<L, How>(Cut<L>(n), x, weights, inputs, biases, y, wide);
      skip(inputs, outputs);
    }
    void skip(int64_t inputs, int64_t outputs) {
      const int64_t wide = kPanel * panels(outputs);
      weights += inputs * wide, biases += wide;
    }
  };

  // Features of rows `stride` apart to rows of points; points behind the last are zeros.
  static void gather(const float* from, int64_t stride, int64_t count, int64_t features, float* to) {
    for (int64_t first = 0; first < n; first += L::lanes) {
      const int64_t known = count - first < L::lanes ? count - first : L::lanes;
      int64_t k = 0;
      if (known == L::lanes)
        for (; k + L::lanes <= features; k += L::lanes)
          transpose<L>(from + first * stride + k, stride, to + k * n + first, n);
      for (; k < features; ++k)
        for (int64_t i = 0; i < L::lanes; ++i)
          to[k * n + first + i] = i < known ? from[(first + i) * stride + k] : 0.0f;
    }
  }

  // And back.
  static void scatter(const float* from, int64_t count, int64_t features, float* to, int64_t stride) {
    for (int64_t first = 0; first < count; first += L::lanes) {
      const int64_t known = count - first < L::lanes ? count - first : L::lanes;
      int64_t k = 0;
      if (known == L::lanes)
        for (; k + L::lanes <= features; k += L::lanes)
          transpose<L>(from + k * n + first, n, to + first * stride + k, stride);
      for (; k < features; ++k)
        for (int64_t i = 0; i < known; ++i) to[(first + i) * stride + k] = from[k * n + first + i];
    }
  }

  // Mean 0 and variance 1 over the features; `to` may be `from`.
  static void normalise(const float* from, int64_t features, float* to) {
    float mean[n] = {}, scale[n] = {};
    const float share = 1.0f / static_cast<float>(features);
    for (int64_t k = 0; k < features; ++k) {
      NLDF_LANES
      for (int i = 0; i < n; ++i) mean[i] += from[k * n + i];
    }
    NLDF_LANES
    for (int i = 0; i < n; ++i) mean[i] *= share;
    for (int64_t k = 0; k < features; ++k) {
      NLDF_LANES
      for (int i = 0; i < n; ++i) {
        const float x = from[k * n + i] - mean[i];
        scale[i] += x * x;
      }
    }
    NLDF_LANES
    for (int i = 0; i < n; ++i) scale[i] = 1.0f / sqrtf(scale[i] * share + kSlotsEpsilon);
    for (int64_t k = 0; k < features; ++k) {
      NLDF_LANES
      for (int i = 0; i < n; ++i) to[k * n + i] = (from[k * n + i] - mean[i]) * scale[i];
    }
  }

  static void fill(const float* values, int64_t features, float* to) {
    for (int64_t k = 0; k < features; ++k)
      for (int i = 0; i < n; ++i) to[k * n + i] = values[k];
  }

  // The products of two stacks of features, added to `sum`.
  static void match(const float* a, const float* b, int64_t features, float* sum) {
    using V = typename L::Vector;
    V total[L::vectors];
    memcpy(total, sum, sizeof(total));
    const V* const x = reinterpret_cast<const V*>(a);
    const V* const y = reinterpret_cast<const V*>(b);
    for (int64_t k = 0; k < features; ++k) {
      NLDF_UNROLL
      for (int v = 0; v < L::vectors; ++v) total[v] += x[k * L::vectors + v] * y[k * L::vectors + v];
    }
    memcpy(sum, total, sizeof(total));
  }

  // The likenesses [K, R] become weights.
  static void weigh(float* likeness, int64_t slots, int64_t references) {
    const int64_t row = references * n;
    for (int64_t at = 0; at < row; at += n) {
      float most[n], sum[n] = {};
      for (int i = 0; i < n; ++i) most[i] = likeness[at + i];
      for (int64_t k = 1; k < slots; ++k) {
        const float* const x = likeness + k * row + at;
        NLDF_LANES
        for (int i = 0; i < n; ++i) most[i] = x[i] > most[i] ? x[i] : most[i];
      }
      for (int64_t k = 0; k < slots; ++k) {
        float* const x = likeness + k * row + at;
        NLDF_LANES
        for (int i = 0; i < n; ++i) {
          x[i] = exponential(x[i] - most[i]);
          sum[i] += x[i];
        }
      }
      for (int64_t k = 0; k < slots; ++k) {
        float* const x = likeness + k * row + at;
        NLDF_LANES
        for (int i = 0; i < n; ++i) x[i] = x[i] / sum[i] + kSlotsLeast;
      }
    }
    for (int64_t k = 0; k < slots; ++k) {
      float* const x = likeness + k * row;
      float sum[n] = {};
      for (int64_t r = 0; r < row; r += n) {
        NLDF_LANES
        for (int i = 0; i < n; ++i) sum[i] += x[r + i];
      }
      for (int64_t r = 0; r < row; r += n) {
        NLDF_LANES
        for (int i = 0; i < n; ++i) x[r + i] /= sum[i];
      }
    }
  }

  // The mean of the inputs [R, W] by weights [R]; `step` numbers lie between two inputs.
  static void average(const float* inputs, int64_t step, const float* weights, int64_t references,
                      int64_t features, float* to) {
    using V = typename L::Vector;
    for (int64_t k = 0; k < features; ++k) {
      V total[L::vectors] = {};
      for (int64_t r = 0; r < references; ++r) {
        const V* const x = reinterpret_cast<const V*>(inputs + r * step + k * n);
        const V* const w = reinterpret_cast<const V*>(weights + r * n);
        NLDF_UNROLL
        for (int v = 0; v < L::vectors; ++v) total[v] += x[v] * w[v];
      }
      memcpy(to + k * n, total, sizeof(total));
    }
  }

  // A slot's step by the gates that its mean, and those that it itself has given; `size` numbers to a gate.
  static void step(const float* gates, const float* own, int64_t size, float* slot) {
    NLDF_LANES
    for (int64_t i = 0; i < size; ++i) {
      const float reset = sigmoid(gates[i] + own[i]);
      const float keep = sigmoid(gates[size + i] + own[size + i]);
      // tanh x = 1 - 2 / (1 + e^2x)
      const float x = gates[2 * size + i] + reset * own[2 * size + i];
      const float made = 1.0f - 2.0f / (1.0f + exponential(2.0f * x));
      slot[i] = made + keep * (slot[i] - made);
    }
  }

  static int64_t wide(const SlotsArgs& args) { return kPanel * panels(args.width); }

  static int64_t scratch(const SlotsArgs& args) {
    const int64_t q = wide(args), hidden = 2 + 2 * kPanel * panels(args.hidden);
    return n *
           (args.references * q + args.slots * (2 * q + args.references + 1) + 9 * q + hidden + args.points);
  }

  // The inputs of attention [R, Q], of one group's points; `layers` stands behind `mix` then.
  static void make_inputs(const SlotsArgs& args, int64_t first, int64_t count, Layers& layers, float* inputs,
                          float* memory) {
    const int64_t q = wide(args), each = args.hidden + args.width, stride = args.references * each;
    float* const point = memory;
    float* const mixed = point + n * q;
    float* const near = mixed + n * q;  // a place, and what is made of it
    float* const hidden = near + n * (2 + kPanel * panels(args.hidden));
    float* const encoded = hidden + n * kPanel * panels(args.hidden);
    gather(args.encoded + first * args.points, args.points, count, args.points, encoded);
    Layers of_point = layers;
    of_point.skip(2, args.hidden);
    of_point.template next<Store::plain>(encoded, args.points, point, args.width);
    Layers end = of_point;
    for (int64_t r = 0; r < args.references; ++r) {
      const float* const share = args.shares + first * stride + r * each;
      float* const input = inputs + r * n * q;
      gather(args.places + 2 * (first * args.references + r), 2 * args.references, count, 2, near);
      gather(share, stride, count, args.hidden, hidden);
      gather(share + args.hidden, stride, count, args.width, input);
      Layers part = layers;
      part.template next<Store::plain>(near, 2, near + 2 * n, args.hidden);
      float* const small = near + 2 * n;
      NLDF_LANES
      for (int64_t i = 0; i < n * args.hidden; ++i) {
        const float x = small[i] + hidden[i];
        small[i] = 0.0f > x ? 0.0f : x;
      }
      end = of_point;
      end.template next<Store::plain>(near, 2 + args.hidden, mixed, args.width);
      NLDF_LANES
      for (int64_t i = 0; i < n * args.width; ++i) {
        const float x = input[i] + point[i] + mixed[i];
        input[i] = 0.0f > x ? kSlotsSlope * x : x;
      }
      normalise(input, args.width, input);
    }
    layers = end;
  }

  static void points(const SlotsArgs& args, int64_t first, int64_t count, float* memory) {
    const int64_t q = wide(args), width = args.width, references = args.references, row = n * references;
    float* const inputs = memory;
    float* const slots = inputs + n * references * q;
    float* const query = slots + n * args.slots * q;
    float* const likeness = query + n * args.slots * q;
    float* const score = likeness + args.slots * row;
    float* const own = score + n * args.slots;
    float* const gates = own + 3 * n * q;
    float* const normed = gates + 3 * n * q;
    float* const other = normed + n * q;  // from here on the inputs' memory, which is not needed any longer
    Layers layers{args.weights, args.biases};
    make_inputs(args, first, count, layers, inputs, normed);
    for (int64_t round = 0; round < args.rounds; ++round) {
      for (int64_t k = 0; k < args.slots; ++k) {
        const float* const start = args.start + k * (5 * q + 1);
        if (!round) {
          fill(start, q, slots + k * n * q);
          fill(start + q, q, query + k * n * q);
          fill(start + 5 * q, 1, score + k * n);
        } else {
          Layers part = layers;
          normalise(slots + k * n * q, width, normed);
          part.template next<Store::plain>(normed, width, query + k * n * q, width);
          float* const sum = score + k * n;
          for (int i = 0; i < n; ++i) sum[i] = args.score[q];
          for (int64_t w = 0; w < width; ++w) {
            NLDF_LANES
            for (int i = 0; i < n; ++i) sum[i] += args.score[w] * normed[w * n + i];
          }
        }
        for (int64_t r = 0; r < references; ++r) {
          float* const sum = likeness + k * row + r * n;
          memcpy(sum, score + k * n, sizeof(float) * n);
          match(query + k * n * q, inputs + r * n * q, width, sum);
        }
      }
      weigh(likeness, args.slots, references);
      for (int64_t k = 0; k < args.slots; ++k) {
        float* const slot = slots + k * n * q;
        Layers part = layers;
        part.skip(width, width);
        average(inputs, n * q, likeness + k * row, references, width, normed);
        part.template next<Store::plain>(normed, width, gates, 3 * q);
        if (round)
          part.template next<Store::plain>(slot, width, own, 3 * q);
        else {
          fill(args.start + k * (5 * q + 1) + 2 * q, 3 * q, own);
          part.skip(width, 3 * q);
        }
        step(gates, own, n * q, slot);
        normalise(slot, width, normed);
        part.template next<Store::relu>(normed, width, other, width);
        part.template next<Store::add>(other, width, slot, width);
      }
    }
    const int64_t stride = args.slots * width + args.points;
    float* const out = args.out + first * stride;
    for (int64_t k = 0; k < args.slots; ++k)
      scatter(slots + k * n * q, count, width, out + k * width, stride);
    for (int64_t i = 0; i < count; ++i)
      memcpy(out + i * stride + args.slots * width, args.encoded + (first + i) * args.points,
             sizeof(float) * static_cast<size_t>(args.points));
  }

  static constexpr SlotsKernels kernels() { return {n, scratch, points}; }
};

}  // namespace
}  // namespace nldf
