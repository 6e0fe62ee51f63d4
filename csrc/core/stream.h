// Stores that go past the caches: for results that are larger than these, which would first be read, only to
// be written over, and would drive out what is still needed.
//
// Like the headers that each instruction set compiles with its own flags, all is in an unnamed namespace.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE__
#include <immintrin.h>
#endif

namespace nldf {
namespace {

// From this size on, a few times a core's second cache, results are faster to write past the caches and to
// read again than to write into them; below it, whoever reads them next loses more than the writer gains.
constexpr int64_t kStreamBytes = 8 << 20;

// Whether vectors V may be streamed to the address, which must lie on a vector's own border.
template <class V>
inline bool can_stream(const void* to) {
  return reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0;
}

// A vector of floats past the caches, to a border of its own; any other vector is stored as usual.
template <class V>
inline void stream_vector(float* to, V v) {
#ifdef __AVX512F__
  if constexpr (sizeof(V) == 64) return _mm512_stream_ps(to, (__m512)v);
#endif
#ifdef __AVX__
  if constexpr (sizeof(V) == 32) return _mm256_stream_ps(to, (__m256)v);
#endif
#ifdef __SSE__
  if constexpr (sizeof(V) == 16) return _mm_stream_ps(to, (__m128)v);
#endif
  memcpy(to, &v, sizeof(V));
}

// Orders streamed stores before all later ones, as other threads see them.
inline void finish_streams() {
#ifdef __SSE__
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace nldf
