// Several floats in one access to memory: loads, stores and atomic additions of CUDA kernels.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/launch.cuh"

namespace nldf {
namespace {

// W floats in one access. Whoever picks W has checked that the addresses are aligned.
template <int W>
struct Floats {
  float value[W];
};
template <int W>
__device__ Floats<W> load(const float* from) {
  Floats<W> loaded;
  if constexpr (W == 4) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(from));
    loaded.value[0] = v.x, loaded.value[1] = v.y, loaded.value[2] = v.z, loaded.value[3] = v.w;
  } else if constexpr (W == 2) {
    const float2 v = __ldg(reinterpret_cast<const float2*>(from));
    loaded.value[0] = v.x, loaded.value[1] = v.y;
  } else {
    loaded.value[0] = __ldg(from);
  }
  return loaded;
}
template <int W>
__device__ void store(float* to, const Floats<W>& stored) {
  if constexpr (W == 4) {
    *reinterpret_cast<float4*>(to) =
        make_float4(stored.value[0], stored.value[1], stored.value[2], stored.value[3]);
  } else if constexpr (W == 2) {
    *reinterpret_cast<float2*>(to) = make_float2(stored.value[0], stored.value[1]);
  } else {
    *to = stored.value[0];
  }
}
template <int W>
__device__ void add_atomically(float* to, const Floats<W>& added) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (W == 4) {
    atomicAdd(reinterpret_cast<float4*>(to),
              make_float4(added.value[0], added.value[1], added.value[2], added.value[3]));
  } else if constexpr (W == 2) {
    atomicAdd(reinterpret_cast<float2*>(to), make_float2(added.value[0], added.value[1]));
  } else {
    atomicAdd(to, added.value[0]);
  }
#else
#pragma unroll
  for (int f = 0; f < W; ++f) atomicAdd(to + f, added.value[f]);
#endif
}

// The widest access that divides the features and that all addresses allow.
inline int access_width(int64_t features, int most, std::initializer_list<const float*> addresses) {
  for (int width = most; width > 1; width /= 2) {
    bool fits = features % width == 0;
    for (const float* address : addresses) {
      fits = fits && reinterpret_cast<uintptr_t>(address) % (width * sizeof(float)) == 0;
    }
    if (fits) return width;
  }
  return 1;
}

}  // namespace
}  // namespace nldf
