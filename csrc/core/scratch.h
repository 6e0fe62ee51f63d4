// A thread's scratch memory, kept between calls: fresh pages can cost more than the arithmetic.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace nldf {

// At least `count` scalars, aligned to cache lines. The next call of the same thread may hand out the same.
template <class T>
T* scratch(int64_t count) {
  constexpr std::size_t kCacheLine = 64;
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(kCacheLine)); }
  };
  thread_local std::unique_ptr<T, Free> memory;
  thread_local int64_t size = 0;
  if (count > size) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<T*>(::operator new(sizeof(T) * count, std::align_val_t(kCacheLine))));
    size = count;
  }
  return memory.get();
}

}  // namespace nldf
