// The 8-bit linear layer in vectors of 64 bytes, compiled for AVX-512 F, BW and VNNI: sums of twelve rows and
// two panels of outputs. Inputs are unsigned, as the instruction takes them: 128 is added to each, and 128
// times the sum of the weights taken off again.
#include <immintrin.h>

#include "ops/linear_lanes.h"

namespace nldf {
namespace {

using L = Lanes<float, 64, 8, 3>;
constexpr int kGroup = 12;

// The first `Rows` rows of the group that begins at `row`.
template <int Rows>
void block(const LinearArgs& args, const uint8_t* integers, const float* scales, int64_t row, int64_t first) {
  const int64_t quads = args.dim_in / 4;
  const uint8_t* x = integers + row * args.dim_in;
  const int8_t *w = args.weights + first * args.dim_in, *w1 = w + kLinearPanel * args.dim_in;
  __m512i sum[Rows][2] = {};
  for (int64_t k = 0; k < quads; ++k, x += 4 * kGroup, w += 64, w1 += 64) {
    const __m512i a = _mm512_loadu_si512(w), b = _mm512_loadu_si512(w1);
    NLDF_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const __m512i quad = _mm512_set1_epi32(load_lanes<int32_t>(x + 4 * r));
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], quad, a);
      sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], quad, b);
    }
  }
  alignas(64) int32_t offsets[2 * kLinearPanel];
  for (int n = 0; n < 2 * kLinearPanel; ++n) offsets[n] = 128 * args.sums[first + n];
  // Stored as a whole, so that they stay in registers up to here.
  alignas(64) int32_t made[Rows][2 * kLinearPanel];
  NLDF_UNROLL
  for (int r = 0; r < Rows; ++r) {
    _mm512_store_si512(made[r], sum[r][0]);
    _mm512_store_si512(made[r] + kLinearPanel, sum[r][1]);
  }
  for (int r = 0; r < Rows && row + r < args.rows; ++r)
    linear_finish<L, 2 * kLinearPanel>(args, made[r], offsets, scales[row + r], row + r, first);
}

template <int Rows>
void blocks(const LinearArgs& args, const void* integers, const float* scales, int64_t row, int64_t first,
            int64_t last) {
  for (; first < last; first += 2 * kLinearPanel)
    block<Rows>(args, static_cast<const uint8_t*>(integers), scales, row, first);
}

void multiply(const LinearArgs& args, const void* integers, const float* scales, int64_t first,
              int64_t last) {
  for (int64_t row = 0; row < args.rows; row += kGroup) {
    if (args.rows - row > 8)
      blocks<12>(args, integers, scales, row, first, last);
    else if (args.rows - row > 4)
      blocks<8>(args, integers, scales, row, first, last);
    else
      blocks<4>(args, integers, scales, row, first, last);
  }
}

}  // namespace

const LinearKernels kLinearAvx512 = {kGroup, 1, linear_quantise<L, uint8_t, 128, kGroup>, multiply};

}  // namespace nldf
