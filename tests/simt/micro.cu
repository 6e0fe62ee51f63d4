#include "micro.h"

#include "core/launch.cuh"

namespace nldf {

namespace {
using namespace ptx;

__device__ uint32_t float_bits(float value) {
  return __float_as_uint(value);
}

__global__ void shuffles(MicroArgs args) {
  const int lane = threadIdx.x;
  const uint32_t v = args.in[lane];
  args.out[lane] = __shfl_sync(~0u, v, 5);
  args.out[32 + lane] = __shfl_sync(~0u, v, lane * 3, 8);
  args.out[64 + lane] = __shfl_up_sync(~0u, v, 3);
  args.out[96 + lane] = __shfl_down_sync(~0u, v, 2, 16);
  args.out[128 + lane] = __shfl_xor_sync(~0u, v, 9);
  if (lane < 16) args.out[160 + lane] = __shfl_xor_sync(0xffffu, v, 1);
  if (lane >= 16) args.out[160 + lane] = v;
}

__global__ void votes(MicroArgs args) {
  const bool odd = args.in[threadIdx.x] % 3 == 0;
  args.out[threadIdx.x] = __ballot_sync(~0u, odd) + 2 * __any_sync(~0u, odd) + __all_sync(~0u, odd);
}

__global__ void halves(MicroArgs args) {
  const float2 v = unpack_half2(args.in[threadIdx.x]);
  args.out[threadIdx.x] = pack_half2(v.x + 0.1f, v.y - 0.1f);
  args.out[32 + threadIdx.x] = pack_half2_relu(v.x, v.y);
  args.out[64 + threadIdx.x] = float_bits(v.x);
  args.out[96 + threadIdx.x] = float_bits(v.y);
}

__global__ void ldmatrix(MicroArgs args) {
  NLDF_DYNAMIC_SHARED(bytes);
  auto* words = reinterpret_cast<uint32_t*>(bytes);
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) words[i] = args.in[i];
  __syncwarp();
  // The rows in another order than memory's, so that each lane's address counts.
  const uint32_t row = shared_address(bytes) + 16 * ((lane * 5) % 32);
  uint32_t r[4], s[2];
  ldmatrix_x4(r, row);
  for (int i = 0; i < 4; ++i) args.out[32 * i + lane] = r[i];
  ldmatrix_x4_trans(r, row);
  for (int i = 0; i < 4; ++i) args.out[128 + 32 * i + lane] = r[i];
  ldmatrix_x2(s, row + 512);
  for (int i = 0; i < 2; ++i) args.out[256 + 32 * i + lane] = s[i];
}

__global__ void mma(MicroArgs args) {
  const int lane = threadIdx.x;
  uint32_t a[4];
  float d[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = args.in[32 * i + lane];
    d[i] = 0.125f * static_cast<float>(i + lane);
  }
  mma_m16n8k16(d, a, args.in[128 + lane], args.in[160 + lane]);
  for (int i = 0; i < 4; ++i) args.out[32 * i + lane] = float_bits(d[i]);
}

// 16-byte copies of which every fifth is not valid, then 4-byte ones, in two groups.
__global__ void copies(MicroArgs args) {
  NLDF_DYNAMIC_SHARED(bytes);
  const uint32_t target = shared_address(bytes);
  const int t = threadIdx.x;
  cp_async_16(target + 16 * t, args.in + 4 * t, t % 5 != 0);
  cp_async_commit();
  cp_async_4(target + 1024 + 4 * t, args.in + 1000 + t, t % 7 != 0);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  const auto* words = reinterpret_cast<const uint32_t*>(bytes);
  for (int i = 0; i < 4; ++i) args.out[64 * i + t] = words[64 * i + (t ^ 33)];
  cp_async_wait<0>();
  __syncthreads();
  args.out[256 + t] = words[256 + (t ^ 33)];
}

// Warps 0 and 1 make, warp 2 takes; and back.
__global__ void named_barriers(MicroArgs args) {
  NLDF_DYNAMIC_SHARED(bytes);
  auto* words = reinterpret_cast<uint32_t*>(bytes);
  const int t = threadIdx.x;
  if (t < 64) {
    words[t] = args.in[t];
    barrier_arrive(1, 96);
    barrier_sync(2, 96);
    args.out[t] = words[64 + t / 2];
  } else {
    barrier_sync(1, 96);
    words[t] = words[2 * (t - 64)] + words[2 * (t - 64) + 1];
    barrier_sync(2, 96);
  }
}

// out[0]: a float, out[1]: two halves, out[2]: an unsigned, out[3]: a maximum; out starts at zero.
__global__ void atomics(MicroArgs args) {
  atomicAdd(reinterpret_cast<float*>(args.out), 0.25f);
  atomicAdd(reinterpret_cast<__half2*>(args.out + 1), __floats2half2_rn(1.0f, 0.5f));
  atomicAdd(args.out + 2, threadIdx.x);
  atomicMax(reinterpret_cast<int*>(args.out + 3), static_cast<int>(args.in[threadIdx.x] & 0xffff));
}

// Two bulk copies into one phase of a barrier, twice.
__global__ void bulk(MicroArgs args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(bytes);
  NLDF_SHARED(uint64_t, barriers, 1);
  const uint32_t target = shared_address(bytes), barrier = shared_address(barriers);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  const auto* words = reinterpret_cast<const uint32_t*>(bytes);
  for (int phase = 0; phase < 2; ++phase) {
    if (threadIdx.x == 0) {
      mbarrier_arrive_expect_tx(barrier, 2048);
      bulk_load(target + 512, args.in + 512 * phase, 1024, barrier);
      bulk_load(target + 1536, args.in + 512 * phase + 256, 1024, barrier);
    }
    mbarrier_wait(barrier, phase & 1);
    for (int i = threadIdx.x; i < 512; i += blockDim.x) args.out[512 * phase + i] = words[128 + i];
    fence_proxy_async();  // what was read here is overwritten by a bulk copy
    __syncthreads();      // before the next phase writes
  }
#endif
}

// Each block sends half of the input to both; then each tells the other that it has read.
__global__ void cluster(MicroArgs args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(bytes);
  NLDF_SHARED(uint64_t, barriers, 2);
  const uint32_t full = shared_address(barriers), read = full + 8, rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init(read, 2);
    fence_mbarrier_init();
  }
  cluster_arrive();
  cluster_wait();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect_tx(full, 4096);
    bulk_load_multicast(shared_address(bytes) + 2048 * rank, args.in + 512 * rank, 2048, full, 3);
  }
  mbarrier_wait(full, 0);
  const auto* words = reinterpret_cast<const uint32_t*>(bytes);
  for (int i = threadIdx.x; i < 1024; i += blockDim.x) args.out[1024 * blockIdx.x + i] = words[i] + rank;
  if (threadIdx.x % 32 == 0) mbarrier_arrive_cluster(map_shared(read, rank ^ 1));
  mbarrier_wait(read, 0);
  cluster_arrive();
  cluster_wait();
#endif
}

// Rows of 64 halves with the 128-byte swizzle: as many bytes as matrix_descriptor_128 names.
[[maybe_unused]] __device__ void load_swizzled(unsigned char* target, const uint32_t* source, int rows) {
  auto* vectors = reinterpret_cast<uint4*>(target);
  for (int i = threadIdx.x; i < rows * 8; i += blockDim.x) {
    const int row = i / 8, column = i % 8;
    const uint32_t* w = source + (4 * i) % kMicroWords;
    vectors[8 * row + (column ^ row % 8)] = make_uint4(w[0], w[1], w[2], w[3]);
  }
}

template <int N>
__device__ void store_product(const float (&d)[N / 2], uint32_t* out) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) out[128 * i + threadIdx.x] = float_bits(d[i]);
}

// a: words 4 thread ... of the input; b: its rows from the beginning. The second step accumulates.
template <int N>
__device__ void wgmma_rs_kernel(const MicroArgs& args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(bytes);
  load_swizzled(bytes, args.in, N);
  fence_proxy_async();
  __syncthreads();
  const uint32_t* a = args.in + 4 * threadIdx.x;
  const uint32_t b = shared_address(bytes);
  float d[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = 7.0f;  // not to be seen
  const uint32_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
  wgmma_fence_operands(d);
  wgmma_fence();
  wgmma_rs<N>(d, a0, a1, a2, a3, matrix_descriptor_128(b), false);
  wgmma_rs<N>(d, a0, a1, a2, a3, matrix_descriptor_128(b + 32 * 3), true);
  wgmma_commit();
  wgmma_wait<0>();
  store_product<N>(d, args.out);
#endif
}

template <int N>
__device__ void wgmma_ss_kernel(const MicroArgs& args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(bytes);
  load_swizzled(bytes, args.in + 256, 64);
  load_swizzled(bytes + 8192, args.in, N);
  fence_proxy_async();
  __syncthreads();
  const uint32_t a = shared_address(bytes), b = a + 8192;
  float d[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = 0.5f;
  wgmma_fence_operands(d);
  wgmma_fence();
  wgmma_ss<N>(d, matrix_descriptor_128(a), matrix_descriptor_128(b), true);
  wgmma_ss<N>(d, matrix_descriptor_128(a + 64), matrix_descriptor_128(b + 64), true);
  wgmma_commit();
  wgmma_wait<0>();
  store_product<N>(d, args.out);
#endif
}

__global__ void __launch_bounds__(128) wgmma_rs_8(MicroArgs args) {
  wgmma_rs_kernel<8>(args);
}
__global__ void __launch_bounds__(128) wgmma_rs_64(MicroArgs args) {
  wgmma_rs_kernel<64>(args);
}
__global__ void __launch_bounds__(128) wgmma_rs_128(MicroArgs args) {
  wgmma_rs_kernel<128>(args);
}
__global__ void __launch_bounds__(128) wgmma_rs_256(MicroArgs args) {
  wgmma_rs_kernel<256>(args);
}
__global__ void __launch_bounds__(128) wgmma_ss_16(MicroArgs args) {
  wgmma_ss_kernel<16>(args);
}
__global__ void __launch_bounds__(128) wgmma_ss_64(MicroArgs args) {
  wgmma_ss_kernel<64>(args);
}
}  // namespace

#define NLDF_MICRO_DEFINE(name, blocks, threads, shared, cluster, words)             \
  void micro_##name##_cuda(const MicroArgs& args, const Exec& exec) {                \
    launch_shape(#name, name, {dim3(blocks), threads, shared, cluster}, exec, args); \
  }
NLDF_MICRO(NLDF_MICRO_DEFINE)

}  // namespace nldf

#ifdef NLDF_SIMT
#include "emulator/harness.h"
#define NLDF_MICRO_KNOWN(name, ...) SIMT_KERNEL(name, nldf::micro_##name##_cuda);
NLDF_MICRO(NLDF_MICRO_KNOWN)
#endif
