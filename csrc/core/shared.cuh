// Arrays within a kernel's dynamic shared memory: one layout, made at compile time, that the launcher takes
// the size from and the kernel the places. Under NLDF_SIMT the arrays lie apart and the runner knows each of
// them, so that running over the end of one is found.
//
//   struct Layout {
//     SharedPlan plan;
//     size_t tile = plan.add(64 * 64 * 2, 1024), sums = plan.add(32 * sizeof(float));
//   };
//   in the launcher:  layout_bytes<Layout>()
//   in the kernel:    constexpr Layout layout;  float* sums = shared_array<float>(bytes, layout.sums, 32,
//   "sums");
//
// Always of a constexpr object, as here: g++ 12 adds up a plain Layout{}.plan.bytes twice.
#pragma once

#include <cstddef>

#include "cuda/ptx.cuh"

namespace nldf {

#ifdef NLDF_SIMT
constexpr size_t kSharedGap = 64;
#else
constexpr size_t kSharedGap = 0;
#endif

// Hands out places one after the other; `bytes` is the size so far.
struct SharedPlan {
  size_t bytes = 0;

  constexpr size_t add(size_t size, size_t align = 16) {
    const size_t at = (bytes + align - 1) / align * align;
    bytes = at + size + kSharedGap;
    return at;
  }
};

template <class Layout>
constexpr size_t layout_bytes() {
  constexpr Layout layout;
  return layout.plan.bytes;
}

// The array of `count` elements at `offset` of the kernel's dynamic shared memory.
template <class T>
NLDF_PTX T* shared_array(unsigned char* shared, size_t offset, [[maybe_unused]] size_t count,
                         [[maybe_unused]] const char* name) {
#ifdef NLDF_SIMT
  simt::declare_shared(shared + offset, count * sizeof(T), name);
#endif
  return reinterpret_cast<T*>(shared + offset);
}

}  // namespace nldf
