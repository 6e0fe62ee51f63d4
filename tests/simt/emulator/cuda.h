// CUDA as g++ sees it under NLDF_SIMT: keywords, built-in variables, vector and half types, warp functions.
// Kernels reach it through launch.cuh and ptx.cuh. What is missing here is a compile error, never a guess.
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "half.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
// __shared__ stays undefined: g++ ignores section attributes within templates, so the runner could not find
// the arrays. Each instantiation has a key of its own.
#define NLDF_SHARED(T, name, count) \
  static char simt_key_##name;      \
  T* name = static_cast<T*>(simt::static_shared(&simt_key_##name, #name, (count) * sizeof(T), alignof(T)))
#define NLDF_DYNAMIC_SHARED(name) unsigned char* name = simt::dynamic_shared()
#define SIMT_INLINE inline __attribute__((always_inline))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
// Written by the scheduler whenever another thread goes on.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace simt {

struct Launch {
  dim3 grid, block;
  size_t shared;     // bytes of dynamic shared memory
  unsigned cluster;  // blocks of a cluster
};
// Runs `body` once for every thread, cluster after cluster, as the seed of the run says.
void launch(const char* name, const Launch& shape, const std::function<void()>& body);

unsigned char* dynamic_shared();
void* static_shared(const void* key, const char* name, size_t bytes, size_t align);
// Declares an array within dynamic shared memory; from then on nothing between arrays may be touched.
void declare_shared(const void* array, size_t bytes, const char* name);

void block_barrier(int line);
void warp_barrier(unsigned mask);
enum class Shuffle { index, up, down, exclusive_or };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width);
unsigned ballot(unsigned mask, bool predicate);
unsigned active_lanes();

// Atomics; the functions return the former value.
float atomic_add(float* p, float value);
double atomic_add(double* p, double value);
int atomic_add(int* p, int value);
unsigned atomic_add(unsigned* p, unsigned value);
unsigned long long atomic_add(unsigned long long* p, unsigned long long value);
__half atomic_add(__half* p, __half value);
__half2 atomic_add(__half2* p, __half2 value);
float2 atomic_add(float2* p, float2 value);
float4 atomic_add(float4* p, float4 value);
int atomic_max(int* p, int value);
int atomic_min(int* p, int value);
unsigned atomic_max(unsigned* p, unsigned value);
unsigned atomic_or(unsigned* p, unsigned value);
int atomic_exchange(int* p, int value);
int atomic_compare(int* p, int expected, int value);

template <class T>
SIMT_INLINE T shuffle_value(Shuffle kind, unsigned mask, T value, int operand, int width) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move up to 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = shuffle(kind, mask, bits, operand, width);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

SIMT_INLINE void __syncthreads(int line = __builtin_LINE()) {
  simt::block_barrier(line);
}
SIMT_INLINE void __syncwarp(unsigned mask = ~0u) {
  simt::warp_barrier(mask);
}
// Blocks and launches are distinguished by the checker; within them a fence orders nothing that it tracks.
SIMT_INLINE void __threadfence() {}
SIMT_INLINE void __threadfence_block() {}
SIMT_INLINE unsigned __activemask() {
  return simt::active_lanes();
}
SIMT_INLINE unsigned __ballot_sync(unsigned mask, int predicate) {
  return simt::ballot(mask, predicate != 0);
}
SIMT_INLINE int __any_sync(unsigned mask, int predicate) {
  return simt::ballot(mask, predicate != 0) != 0;
}
SIMT_INLINE int __all_sync(unsigned mask, int predicate) {
  return simt::ballot(mask, predicate == 0) == 0;
}
template <class T>
SIMT_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return simt::shuffle_value(simt::Shuffle::index, mask, value, lane, width);
}
template <class T>
SIMT_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return simt::shuffle_value(simt::Shuffle::up, mask, value, static_cast<int>(by), width);
}
template <class T>
SIMT_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return simt::shuffle_value(simt::Shuffle::down, mask, value, static_cast<int>(by), width);
}
template <class T>
SIMT_INLINE T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
  return simt::shuffle_value(simt::Shuffle::exclusive_or, mask, value, by, width);
}
template <class T>
SIMT_INLINE T atomicAdd(T* p, std::common_type_t<T> value) {
  return simt::atomic_add(p, value);
}
template <class T>
SIMT_INLINE T atomicMax(T* p, std::common_type_t<T> value) {
  return simt::atomic_max(p, value);
}
template <class T>
SIMT_INLINE T atomicMin(T* p, std::common_type_t<T> value) {
  return simt::atomic_min(p, value);
}
template <class T>
SIMT_INLINE T atomicOr(T* p, std::common_type_t<T> value) {
  return simt::atomic_or(p, value);
}
SIMT_INLINE int atomicExch(int* p, int value) {
  return simt::atomic_exchange(p, value);
}
SIMT_INLINE int atomicCAS(int* p, int expected, int value) {
  return simt::atomic_compare(p, expected, value);
}

template <class T>
SIMT_INLINE T __ldg(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE T __ldcs(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE T __ldcg(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE void __stcs(T* p, std::common_type_t<T> value) {
  *p = value;
}
template <class T>
SIMT_INLINE void __stcg(T* p, std::common_type_t<T> value) {
  *p = value;
}

template <class A, class B>
SIMT_INLINE constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
SIMT_INLINE constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
SIMT_INLINE int __popc(unsigned x) {
  return __builtin_popcount(x);
}
SIMT_INLINE int __ffs(int x) {
  return __builtin_ffs(x);
}
SIMT_INLINE int __clz(int x) {
  return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
SIMT_INLINE unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
SIMT_INLINE float __expf(float x) {
  return expf(x);
}
SIMT_INLINE float __logf(float x) {
  return logf(x);
}
SIMT_INLINE float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
SIMT_INLINE float __fdividef(float a, float b) {
  return a / b;
}
SIMT_INLINE float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}
SIMT_INLINE int __float_as_int(float x) {
  int bits;
  memcpy(&bits, &x, 4);
  return bits;
}
SIMT_INLINE float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
SIMT_INLINE unsigned __float_as_uint(float x) {
  return static_cast<unsigned>(__float_as_int(x));
}
SIMT_INLINE float __uint_as_float(unsigned bits) {
  return __int_as_float(static_cast<int>(bits));
}
