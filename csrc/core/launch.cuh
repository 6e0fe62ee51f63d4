// What every CUDA launcher does around its kernel: choose the device, cap the grid, check the launch. The
// only place where a launch becomes <<<>>> or, under NLDF_SIMT, a run on the CPU (tests/simt/emulator).
#pragma once

#ifdef NLDF_SIMT
#include "emulator/cuda.h"
#else
#include <cuda_runtime.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/hd.h"
#include "cuda/ptx.cuh"

namespace nldf {

// What a launch is made of besides the kernel and its arguments.
struct Shape {
  dim3 blocks;
  unsigned threads;      // of a block
  size_t shared = 0;     // bytes of dynamic shared memory; more than 48 KB is requested here
  unsigned cluster = 1;  // blocks of a cluster, [sm_90]; divides blocks.x
};

#ifdef NLDF_SIMT

// The multiprocessors of the device: few, so that persistent kernels walk several tiles a block.
inline int multiprocessors(const Exec&) {
  return 4;
}

template <class... Params, class... Args>
void launch_shape(const char* name, void (*kernel)(Params...), const Shape& shape, const Exec&,
                  const Args&... args) {
  simt::launch(name, {shape.blocks, dim3(shape.threads), shape.shared, shape.cluster},
               [&] { kernel(static_cast<Params>(args)...); });
}

#else

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

inline int multiprocessors(const Exec& exec) {
  int count = 0;
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, exec.device),
             "cudaDeviceGetAttribute");
  return count;
}

// Launches kernel(args...) as `shape` says.
template <class... Params, class... Args>
void launch_shape(const char* name, void (*kernel)(Params...), const Shape& shape, const Exec& exec,
                  const Args&... args) {
  constexpr size_t kWithoutRequest = 48 << 10;
  const DeviceGuard guard(exec.device);
  if (shape.shared > kWithoutRequest) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared)),
               name);
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = shape.cluster;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared;
  config.stream = static_cast<cudaStream_t>(exec.stream);
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), name);
  check_cuda(cudaGetLastError(), name);
}

#endif

// Launches kernel(args) over `items` elements, `items_per_block` to a block. Kernels walk a grid-stride loop,
// so the grid may be capped: enough blocks to fill any device many times over; under the runner so few that
// the loops go round.
template <class Args>
void launch(const char* name, void (*kernel)(Args), const Args& args, int64_t items, int items_per_block,
            int threads_per_block, const Exec& exec) {
  if (items == 0) return;
#ifdef NLDF_SIMT
  constexpr int64_t kMostBlocks = 3;
#else
  constexpr int64_t kMostBlocks = 1 << 16;
#endif
  const int64_t blocks = std::min((items + items_per_block - 1) / items_per_block, kMostBlocks);
  launch_shape(name, kernel, {dim3(static_cast<unsigned>(blocks)), static_cast<unsigned>(threads_per_block)},
               exec, args);
}

}  // namespace nldf
