// The 8-bit linear layer in vectors of 16 bytes, which every target has.
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "ops/linear_lanes.h"

namespace nldf {
namespace {

// A product of two bytes fits 16 bits; two of them lie in 32.
struct Dot {
  typedef int32_t Sums __attribute__((vector_size(16)));
  typedef int16_t Pairs __attribute__((vector_size(16)));
  static void load(const int8_t* from, Pairs& a, Pairs& b) {
    using Bytes = VectorOf<int8_t, 16>::Type;
    const Bytes both = load_lanes<Bytes>(from);
    a = (Pairs)Interleave<Bytes, 16>::low(both, both) >> 8;
    b = (Pairs)Interleave<Bytes, 16>::high(both, both) >> 8;
  }
  static Sums dot(Sums sum, Pairs x, Pairs w) {
#ifdef __SSE2__
    return sum + (Sums)_mm_madd_epi16((__m128i)x, (__m128i)w);
#else
    const Sums both = (Sums)(x * w);
    return sum + (both >> 16) + (both << 16 >> 16);
#endif
  }
};

}  // namespace

const LinearKernels kLinearPortable = PairProducts<Lanes<float, 16, 4, 3>, Dot>::kernels();

}  // namespace nldf
