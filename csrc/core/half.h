// Half precision as an output format: a float rounded to the nearest half, ties to even, as every machine's
// own conversion does. On the host in plain integer arithmetic without branches, so that it vectorises.
#pragma once

#include <cstdint>

#include "core/hd.h"
#include "core/maths.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#elif defined(__F16C__)
#include <immintrin.h>
#endif

namespace nldf {

NLDF_HD uint16_t half_bits(float value) {
#ifdef __CUDA_ARCH__
  return __half_as_ushort(__float2half_rn(value));
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Normal halves: the exponent moves by 127 - 15, and 13 bits are rounded away.
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 halves lie 2^-24 apart, as floats do between 1/2 and 1: adding 1/2 rounds to them.
  const uint32_t small = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - bit_cast<uint32_t>(0.5f);
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN, infinity
  // From 65520 on, halfway to the next power of two, values round to infinity.
  const uint32_t finite = magnitude < 0x38800000u ? small : normal;
  const uint32_t held = magnitude < 0x477ff000u ? finite : large;
  return static_cast<uint16_t>(held | ((bits >> 16) & 0x8000u));
#endif
}

struct Half {
  uint16_t bits;
  Half() = default;
  NLDF_HD explicit Half(float value) : bits(half_bits(value)) {}
};

// N numbers as Out: by the processor's own conversion where a file is compiled for one that has it.
template <int N, class T>
NLDF_HD void convert(const T* values, T* out) {
  for (int i = 0; i < N; ++i) out[i] = values[i];
}
template <int N>
NLDF_HD void convert(const float* values, Half* out) {
  int i = 0;
#if defined(__AVX512F__) && !defined(__CUDACC__)
  for (; i + 16 <= N; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__) && !defined(__CUDACC__)
  for (; i + 8 <= N; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < N; ++i) out[i] = Half(values[i]);
}

}  // namespace nldf
