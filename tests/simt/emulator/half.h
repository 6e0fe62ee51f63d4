// CUDA's vector types and half-precision functions for the host; part of cuda.h. A half is rounded to the
// nearest even, as on the device; arithmetic goes through float and is rounded once.
#pragma once

#include <cstdint>
#include <cstring>

#define SIMT_VECTOR2(name, T, align)            \
  struct __attribute__((aligned(align))) name { \
    T x, y;                                     \
  };                                            \
  inline constexpr name make_##name(T x, T y) { \
    return {x, y};                              \
  }
#define SIMT_VECTOR4(name, T, align)                      \
  struct __attribute__((aligned(align))) name {           \
    T x, y, z, w;                                         \
  };                                                      \
  inline constexpr name make_##name(T x, T y, T z, T w) { \
    return {x, y, z, w};                                  \
  }
SIMT_VECTOR2(float2, float, 8)
SIMT_VECTOR2(int2, int, 8)
SIMT_VECTOR2(uint2, unsigned, 8)
SIMT_VECTOR4(float4, float, 16)
SIMT_VECTOR4(int4, int, 16)
SIMT_VECTOR4(uint4, unsigned, 16)
#undef SIMT_VECTOR2
#undef SIMT_VECTOR4
struct float3 {
  float x, y, z;
};
inline constexpr float3 make_float3(float x, float y, float z) {
  return {x, y, z};
}

namespace simt {
#ifdef __FLT16_MAX__
inline uint16_t to_half(float value) {
  const _Float16 half = static_cast<_Float16>(value);
  uint16_t bits;
  memcpy(&bits, &half, 2);
  return bits;
}
inline float from_half(uint16_t bits) {
  _Float16 half;
  memcpy(&half, &bits, 2);
  return static_cast<float>(half);
}
#else
#error "tests/simt/emulator needs a compiler with _Float16: g++ 12 or later on x86-64"
#endif
}  // namespace simt

struct __half {
  uint16_t bits;
  __half() = default;
  __half(float value) : bits(simt::to_half(value)) {}
  operator float() const { return simt::from_half(bits); }
};
struct __attribute__((aligned(4))) __half2 {
  __half x, y;
  __half2() = default;
  __half2(__half x_, __half y_) : x(x_), y(y_) {}
};
using half = __half;
using half2 = __half2;

inline __half __float2half(float value) {
  return __half(value);
}
inline __half __float2half_rn(float value) {
  return __half(value);
}
inline float __half2float(__half value) {
  return simt::from_half(value.bits);
}
inline __half __ushort_as_half(uint16_t bits) {
  __half value;
  value.bits = bits;
  return value;
}
inline uint16_t __half_as_ushort(__half value) {
  return value.bits;
}
inline __half2 __halves2half2(__half x, __half y) {
  return {x, y};
}
inline __half2 make_half2(__half x, __half y) {
  return {x, y};
}
inline __half2 __half2half2(__half x) {
  return {x, x};
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {__half(x), __half(y)};
}
inline __half2 __float22half2_rn(float2 v) {
  return {__half(v.x), __half(v.y)};
}
inline __half2 __float2half2_rn(float x) {
  return {__half(x), __half(x)};
}
inline float2 __half22float2(__half2 v) {
  return {__half2float(v.x), __half2float(v.y)};
}
inline float __low2float(__half2 v) {
  return __half2float(v.x);
}
inline float __high2float(__half2 v) {
  return __half2float(v.y);
}
inline __half __low2half(__half2 v) {
  return v.x;
}
inline __half __high2half(__half2 v) {
  return v.y;
}
inline __half __hadd(__half a, __half b) {
  return __half(__half2float(a) + __half2float(b));
}
inline __half __hmul(__half a, __half b) {
  return __half(__half2float(a) * __half2float(b));
}
inline __half2 __hadd2(__half2 a, __half2 b) {
  return {__hadd(a.x, b.x), __hadd(a.y, b.y)};
}
inline __half2 __hsub2(__half2 a, __half2 b) {
  return {__half(__half2float(a.x) - __half2float(b.x)), __half(__half2float(a.y) - __half2float(b.y))};
}
inline __half2 __hmul2(__half2 a, __half2 b) {
  return {__hmul(a.x, b.x), __hmul(a.y, b.y)};
}
// The product of two halves is exact in double, and so is nearly every sum: rounded once, as by the device.
inline __half __hfma(__half a, __half b, __half c) {
  return __half(static_cast<float>(static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c)));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __half __hmax(__half a, __half b) {
  return __half2float(a) > __half2float(b) ? a : b;
}
inline __half2 __hmax2(__half2 a, __half2 b) {
  return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
