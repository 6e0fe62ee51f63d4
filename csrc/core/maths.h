// Elementary functions that vectorise: branch-free, no table, no call, the same code on host and device.
//
// The float versions are polynomials of our own fitting (least squares at Chebyshev nodes in double);
// double goes to the C library and exists for gradient checks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/hd.h"

namespace nldf {

template <class To, class From>
NLDF_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Adding and subtracting 1.5 * 2^23 rounds a float of magnitude below 2^22 to the nearest integer, and
// leaves that integer in the low bits of the sum.
constexpr float kRound = 12582912.0f;

// e^x. Within 2 units in the last place; below -87.33 it gives 0 (denormals are flushed), above 88.72
// infinity.
NLDF_HD float exponential(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  // ln 2 in two parts; the first has few enough bits that n times it is exact.
  const float r = (x - n * 0.693115234375f) - n * 3.1946183e-05f;
  float p = 0.00139337f;
  p = p * r + 0.00836318f;
  p = p * r + 0.04166646f;
  p = p * r + 0.16666577f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  // The power of two goes straight into the exponent, which it never leaves within the range: p may be below
  // one where the power alone would not fit. Unsigned, because a NaN may bring any bits.
  const uint32_t power = bit_cast<uint32_t>(shifted) - bit_cast<uint32_t>(kRound);
  const uint32_t value = bit_cast<uint32_t>(p) + (power << 23);
  // Beyond its range `value` is anything. Chosen by bits: branches would keep lanes from being vectors.
  const uint32_t within = 0u - static_cast<uint32_t>((x >= -87.33f) & (x <= 88.72f));
  const uint32_t over = 0u - static_cast<uint32_t>(x > 88.72f);
  const uint32_t unknown = 0u - static_cast<uint32_t>(x != x);
  return bit_cast<float>((value & within) | (over & 0x7f800000u) | (unknown & 0x7fc00000u));
#endif
}
NLDF_HD double exponential(double x) {
  return exp(x);
}

// An angle, held so that its sine and cosine can be taken at many doublings without losing digits.
template <class T>
struct Angle;

// In quarter turns, as the unevaluated sum hi + lo: about 48 bits, so that after doubling ten times the
// fraction of a turn still carries float precision. Doubling is exact. Valid while the doubled angle
// stays below 2^22 quarter turns.
template <>
struct Angle<float> {
  float hi, lo;
};
template <>
struct Angle<double> {
  double radians;
};

NLDF_HD void make_angle(float radians, Angle<float>& angle) {
#ifdef __CUDA_ARCH__
  constexpr float kHi = 0.63661975f, kLo = 2.5682553e-08f;  // 2 / pi in two parts
  angle.hi = radians * kHi;
  angle.lo = fmaf(radians, kLo, fmaf(radians, kHi, -angle.hi));
#else
  const double quarters = radians * 0.63661977236758134308;
  angle.hi = static_cast<float>(quarters);
  angle.lo = static_cast<float>(quarters - angle.hi);
#endif
}
NLDF_HD void make_angle(double radians, Angle<double>& angle) {
  angle.radians = radians;
}

// Sine and cosine of `times` * angle, for `times` a power of two. Absolute error below 2e-7 up to 4e5 radians
// and below 5e-7 up to 6e6 (there the low part alone can leave the polynomials' range).
NLDF_HD void sine_cosine(const Angle<float>& angle, float times, float& sine, float& cosine) {
  const float hi = angle.hi * times;
  const float shifted = hi + kRound;
  const float f = (hi - (shifted - kRound)) + angle.lo * times;  // quarter turns in [-1/2, 1/2]
  const float z = f * f;
  float s = -0.0046021631f;
  s = s * z + 0.0796802229f;
  s = s * z - 0.645963478f;
  s = s * z + 1.57079632f;
  s = s * f;
  float c = 9.06742246e-04f;
  c = c * z - 2.08615293e-02f;
  c = c * z + 2.53669410e-01f;
  c = c * z - 1.23370055e+00f;
  c = c * z + 1.0f;
  const int32_t quadrant = bit_cast<int32_t>(shifted);
  // In odd quadrants they change places; by bits, because a branch would keep lanes from being vectors.
  const uint32_t odd = 0u - (static_cast<uint32_t>(quadrant) & 1u);
  const uint32_t swap = (bit_cast<uint32_t>(s) ^ bit_cast<uint32_t>(c)) & odd;
  // Signs: the sine turns in quadrants 2 and 3, the cosine in 1 and 2.
  const uint32_t sine_sign = (static_cast<uint32_t>(quadrant) & 2u) << 30;
  const uint32_t cosine_sign = ((static_cast<uint32_t>(quadrant) + 1u) & 2u) << 30;
  sine = bit_cast<float>(bit_cast<uint32_t>(s) ^ swap ^ sine_sign);
  cosine = bit_cast<float>(bit_cast<uint32_t>(c) ^ swap ^ cosine_sign);
}
NLDF_HD void sine_cosine(const Angle<double>& angle, double times, double& sine, double& cosine) {
  sine = sin(angle.radians * times);
  cosine = cos(angle.radians * times);
}

// Angles of N lanes, their parts apart, so that vectors load them whole.
template <class T, int N>
struct Angles;
template <int N>
struct Angles<float, N> {
  float hi[N], lo[N];
  NLDF_HD void set(int i, float radians) {
    Angle<float> angle;
    make_angle(radians, angle);
    hi[i] = angle.hi, lo[i] = angle.lo;
  }
  NLDF_HD void get(int i, float times, float& sine, float& cosine) const {
    sine_cosine(Angle<float>{hi[i], lo[i]}, times, sine, cosine);
  }
};
template <int N>
struct Angles<double, N> {
  double radians[N];
  NLDF_HD void set(int i, double value) { radians[i] = value; }
  NLDF_HD void get(int i, double times, double& sine, double& cosine) const {
    sine_cosine(Angle<double>{radians[i]}, times, sine, cosine);
  }
};

}  // namespace nldf
