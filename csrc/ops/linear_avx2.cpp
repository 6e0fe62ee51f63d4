// The 8-bit linear layer in vectors of 32 bytes, compiled for AVX2 and FMA.
#include <immintrin.h>

#include "ops/linear_lanes.h"

namespace nldf {
namespace {

struct Dot {
  typedef int32_t Sums __attribute__((vector_size(32)));
  typedef int16_t Pairs __attribute__((vector_size(32)));
  static void load(const int8_t* from, Pairs& a, Pairs& b) {
    a = (Pairs)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    b = (Pairs)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16)));
  }
  static Sums dot(Sums sum, Pairs x, Pairs w) {
    return sum + (Sums)_mm256_madd_epi16((__m256i)x, (__m256i)w);
  }
};

}  // namespace

const LinearKernels kLinearAvx2 = PairProducts<Lanes<float, 32, 4, 3>, Dot>::kernels();

}  // namespace nldf
