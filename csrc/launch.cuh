// What every CUDA launcher does around its kernel: choose the device, cap the grid, check the launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "hd.h"

namespace nldf {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ": " +
                             cudaGetErrorString(error));
  }
}

// Makes `device` current for a scope, and the former one again after it.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : device_(device) {
    check_cuda(cudaGetDevice(&former_), "cudaGetDevice");
    if (former_ != device_) check_cuda(cudaSetDevice(device_), "cudaSetDevice");
  }
  ~DeviceGuard() {
    if (former_ != device_) cudaSetDevice(former_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int device_;
  int former_ = 0;
};

// Launches kernel(args) over `items` elements, `items_per_block` to a block. Kernels walk a grid-stride loop,
// so the grid may be capped: enough blocks to fill any device many times over.
template <class Args>
void launch(const char* name, void (*kernel)(Args), const Args& args, int64_t items, int items_per_block,
            int threads_per_block, const Exec& exec) {
  if (items == 0) return;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks = std::min((items + items_per_block - 1) / items_per_block, kMostBlocks);
  const DeviceGuard guard(exec.device);
  kernel<<<static_cast<unsigned>(blocks), threads_per_block, 0, static_cast<cudaStream_t>(exec.stream)>>>(
      args);
  check_cuda(cudaGetLastError(), name);
}

}  // namespace nldf
