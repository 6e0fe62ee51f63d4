// Products of rows of float32 with panels of outputs, in vectors of any size: lanes are outputs, and a row's
// number is broadcast to them. `affine` and both products of `attention` are this one.
//
// Unnamed namespace: see core/lanes.h.
#pragma once

#include "core/maths.h"
#include "core/transpose.h"
#include "ops/linear.h"
#include "ops/rows_kernels.h"

namespace nldf {
namespace {

template <class L>
struct Rows {
  using Vector = typename L::Vector;
  static constexpr int group = L::features;  // rows

  // How weights of `outputs` lie: 16 of an input together, with `step` numbers from one input to the next and
  // `panel` from 16 outputs to the next 16.
  struct Panels {
    const float* weights;
    int64_t step, panel;
    const float* vector(int64_t output) const { return weights + output / kPanel * panel + output % kPanel; }
  };

  // For each group of vectors of [first, last) calls put(first output of the group, sums of row 0, ...): the
  // products of `group` rows with them.
  template <class Put>
  struct Product {
    const float* const* x;
    const Panels& panels;
    int64_t inputs, first;
    const Put& put;

    template <int V>
    void run() const {
      const float *rows[group], *w[V];
      NLDF_UNROLL
      for (int r = 0; r < group; ++r) rows[r] = x[r];
      NLDF_UNROLL
      for (int v = 0; v < V; ++v) w[v] = panels.vector(first + v * L::lanes);
      Vector sum[group][V] = {};
      const int64_t step = panels.step;
      for (int64_t k = 0; k < inputs; ++k) {
        Vector b[V];
        NLDF_UNROLL
        for (int v = 0; v < V; ++v) {
          memcpy(&b[v], w[v], sizeof(Vector));
          w[v] += step;
        }
        NLDF_UNROLL
        for (int r = 0; r < group; ++r) {
          const float one = rows[r][k];
          NLDF_UNROLL
          for (int v = 0; v < V; ++v) sum[r][v] += one * b[v];
        }
      }
      // Stored as a whole, so that they stay in registers up to here.
      alignas(64) float made[group][V * L::lanes];
      NLDF_UNROLL
      for (int r = 0; r < group; ++r) {
        NLDF_UNROLL
        for (int v = 0; v < V; ++v) memcpy(made[r] + v * L::lanes, &sum[r][v], sizeof(Vector));
      }
      for (int r = 0; r < group; ++r) put(r, first, made[r], V * L::lanes);
    }
  };

  // put(row of the group, first output, sums, how many) of all outputs [begin, end).
  template <class Put>
  static void multiply(const float* const* x, const Panels& panels, int64_t inputs, int64_t begin,
                       int64_t end, const Put& put) {
    for (int64_t first = begin; first < end; first += L::group) {
      const int64_t left = (end - first) / L::lanes;
      with_vectors<L>(static_cast<int>(left < L::vectors ? left : L::vectors),
                      Product<Put>{x, panels, inputs, first, put});
    }
  }

  // The rows of the group that begins at `row`; in place of rows behind the last there is the last.
  template <class At>
  static void point(const float** x, int64_t row, int64_t end, const At& at) {
    for (int r = 0; r < group; ++r) x[r] = at(row + r < end ? row + r : end - 1);
  }

  static void affine(const AffineArgs& args, int64_t begin, int64_t end, int64_t out_begin, int64_t out_end) {
    const Panels panels{args.weights, kPanel, args.dim_in * kPanel};
    // The loop over outputs is the outer one: their weights serve all rows while they are in the cache.
    for (int64_t first = out_begin; first < out_end; first += L::group) {
      const int64_t last = first + L::group < out_end ? first + L::group : out_end;
      for (int64_t row = begin; row < end; row += group) {
        const float* x[group];
        point(x, row, end, [&](int64_t at) { return args.x + at * args.step; });
        multiply(x, panels, args.dim_in, first, last,
                 [&](int r, int64_t output, const float* sums, int count) {
                   if (row + r >= end) return;
                   float* const out = args.out + (row + r) * args.dim_out + output;
                   const int64_t known = args.dim_out - output < count ? args.dim_out - output : count;
                   NLDF_LANES
                   for (int64_t i = 0; i < known; ++i) out[i] = sums[i] + args.bias[output + i];
                   if (args.gelu) {
                     NLDF_LANES
                     for (int64_t i = 0; i < known; ++i) out[i] = gelu(out[i]);
                   }
                 });
      }
    }
  }

  // Keys [L, size] to panels [L / 16, size, 16]; zeros stand behind the last.
  static void pack_keys(const float* key, int64_t step, int64_t seen, int64_t size, float* packed) {
    for (int64_t first = 0; first < seen; first += L::lanes) {
      float* const to = packed + first / kPanel * kPanel * size + first % kPanel;
      const int64_t known = seen - first < L::lanes ? seen - first : L::lanes;
      if (known == L::lanes) {
        for (int64_t k = 0; k < size; k += L::lanes)
          transpose<L>(key + first * step + k, step, to + k * kPanel, kPanel);
        continue;
      }
      for (int64_t k = 0; k < size; ++k)
        for (int64_t i = 0; i < L::lanes; ++i)
          to[k * kPanel + i] = i < known ? key[(first + i) * step + k] : 0.0f;
    }
    // The rest of the last panel, where vectors are narrower.
    const int64_t filled = (seen + L::lanes - 1) / L::lanes * L::lanes;
    for (int64_t i = filled; i % kPanel; ++i)
      for (int64_t k = 0; k < size; ++k) packed[i / kPanel * kPanel * size + k * kPanel + i % kPanel] = 0.0f;
  }

  // Scores to weights whose sum is returned; all behind the last is left as it is.
  static float weigh(float* scores, int64_t count, float scale) {
    Vector most;
    for (int i = 0; i < L::lanes; ++i) most[i] = scores[0];
    int64_t k = 0;
    for (; k + L::lanes <= count; k += L::lanes) {
      Vector x;
      memcpy(&x, scores + k, sizeof(x));
      most = x > most ? x : most;
    }
    float largest = most[0];
    for (int i = 1; i < L::lanes; ++i) largest = most[i] > largest ? most[i] : largest;
    for (; k < count; ++k) largest = scores[k] > largest ? scores[k] : largest;
    NLDF_LANES
    for (int64_t i = 0; i < count; ++i) scores[i] = exponential((scores[i] - largest) * scale);
    Vector sum{};
    for (k = 0; k + L::lanes <= count; k += L::lanes) {
      Vector x;
      memcpy(&x, scores + k, sizeof(x));
      sum += x;
    }
    float total = 0;
    for (int i = 0; i < L::lanes; ++i) total += sum[i];
    for (; k < count; ++k) total += scores[k];
    return total;
  }

  static void attention(const AttentionArgs& args, int64_t piece, int64_t head, float* scratch) {
    const int64_t size = args.width / args.heads, place = head * size;
    const int64_t wide = panels(args.seen) * kPanel;
    const float* const query = args.query + piece * args.seeing * args.query_step + place;
    const float* const key = args.rows + piece * args.seen * args.step + args.first + place;
    const float* const value = key + args.width;
    float *const keys = scratch, *const weights = scratch + wide * size;
    pack_keys(key, args.step, args.seen, size, keys);
    const Panels of_keys{keys, kPanel, size * kPanel}, of_values{value, args.step, kPanel};
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(size));
    for (int64_t row = 0; row < args.seeing; row += group) {
      const float* x[group];
      float total[group];
      point(x, row, args.seeing, [&](int64_t at) { return query + at * args.query_step; });
      multiply(x, of_keys, size, 0, wide, [&](int r, int64_t first, const float* sums, int count) {
        memcpy(weights + r * wide + first, sums, static_cast<size_t>(count) * sizeof(float));
      });
      for (int r = 0; r < group; ++r) {
        total[r] = weigh(weights + r * wide, args.seen, scale);
        x[r] = weights + r * wide;
      }
      multiply(x, of_values, args.seen, 0, size, [&](int r, int64_t first, const float* sums, int count) {
        if (row + r >= args.seeing) return;
        float* const out = args.out + (piece * args.seeing + row + r) * args.width + place + first;
        const float share = 1.0f / total[r];
        NLDF_LANES
        for (int i = 0; i < count; ++i) out[i] = sums[i] * share;
      });
    }
  }

  static constexpr RowsKernels kernels() { return {group, affine, attention}; }
};

}  // namespace
}  // namespace nldf
