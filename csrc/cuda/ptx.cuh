// The instructions that plain CUDA C++ cannot spell, one function each; kernels use no inline assembly of
// their own. Under nvcc a function is the instruction; under NLDF_SIMT (tests/simt/emulator) it is its
// emulation.
//
// Shared memory is named by 32-bit addresses, as in PTX: shared_address(p) of a pointer, map_shared(a, rank)
// for the same place in another block of the cluster. Unless said otherwise a function runs on sm_80; what
// is marked [sm_90] or [sm_90a] may stand only where NLDF_HOPPER is 1: wrap the kernel's body in
// `#if NLDF_HOPPER`, because every source is compiled for all architectures.
//
// Two spellings differ from CUDA's, because the runner must know where an array ends:
//   NLDF_SHARED(float, sums, 32);      for  __shared__ float sums[32];  rows: using Row = float[16];
//   NLDF_DYNAMIC_SHARED(bytes);        for  extern __shared__ unsigned char bytes[];  1024-byte aligned
#pragma once

#include <cstdint>

#ifdef NLDF_SIMT
#include "emulator/cuda.h"
#include "emulator/ptx.h"
#define NLDF_PTX inline __attribute__((always_inline))
#define NLDF_HOPPER 1
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define NLDF_PTX __device__ __forceinline__
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define NLDF_HOPPER 1
#else
#define NLDF_HOPPER 0
#endif
#define NLDF_SHARED(T, name, count) __shared__ T name[count]
#define NLDF_DYNAMIC_SHARED(name)                                        \
  extern __shared__ __align__(1024) unsigned char nldf_dynamic_shared[]; \
  unsigned char* name = nldf_dynamic_shared
#endif

// NLDF_EITHER(emulation, assembly): the body of a function that returns nothing.
#ifdef NLDF_SIMT
#define NLDF_EITHER(emulation, ...) emulation
#else
#define NLDF_EITHER(emulation, ...) asm volatile(__VA_ARGS__)
#endif

namespace nldf::ptx {

// The address of p, which points into shared memory.
NLDF_PTX uint32_t shared_address(const void* p) {
#ifdef NLDF_SIMT
  return simt::shared_address(p);
#else
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
#endif
}

// --- Halves
// -------------------------------------------------------------------------------------------------

NLDF_PTX uint32_t half2_bits(__half2 value) {
  return *reinterpret_cast<const uint32_t*>(&value);
}
NLDF_PTX __half2 bits_half2(uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}
// Two floats rounded to halves; `low` goes to the low 16 bits.
NLDF_PTX uint32_t pack_half2(float low, float high) {
  return half2_bits(__floats2half2_rn(low, high));
}
// The same with max(0, x), in one instruction.
NLDF_PTX uint32_t pack_half2_relu(float low, float high) {
#ifdef NLDF_SIMT
  return half2_bits(__floats2half2_rn(low < 0 ? 0.0f : low, high < 0 ? 0.0f : high));
#else
  uint32_t bits;
  asm("cvt.rn.relu.f16x2.f32 %0, %2, %1;" : "=r"(bits) : "f"(low), "f"(high));
  return bits;
#endif
}
NLDF_PTX float2 unpack_half2(uint32_t bits) {
  return __half22float2(bits_half2(bits));
}

// The value, out of the optimiser's sight: what is computed from it is not moved out of a loop, where it
// would hold registers all the way.
NLDF_PTX int opaque(int value) {
#ifndef NLDF_SIMT
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// --- Warp matrices
// ------------------------------------------------------------------------------------------

// Four 8x8 matrices of halves. Lane i gives the address of the 16-byte row i % 8 of matrix i / 8; it
// receives, of each matrix m, elements (i / 4, 2 (i % 4)) and the next one in r[m]. Rows are 16-byte aligned.
NLDF_PTX void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {
  NLDF_EITHER(simt::ldmatrix(r, row, 4, false),
              "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]),
              "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
// The same, each matrix transposed on the way: lane i receives (2 (i % 4), i / 4) and the one below it.
NLDF_PTX void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
  NLDF_EITHER(simt::ldmatrix(r, row, 4, true),
              "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]),
              "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
// Two matrices; lanes 0 ... 15 give the rows.
NLDF_PTX void ldmatrix_x2(uint32_t (&r)[2], uint32_t row) {
  NLDF_EITHER(simt::ldmatrix(r, row, 2, false),
              "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]),
              "=r"(r[1]) : "r"(row) : "memory");
}
// d [16, 8] += a [16, 16] b [16, 8], halves in, floats out. With g = lane / 4, t = 2 (lane % 4):
// a[0] = (g, t), a[1] = (g + 8, t), a[2] = (g, t + 8), a[3] = (g + 8, t + 8), each with the next column;
// b0 = (t, g), b1 = (t + 8, g), each with the next row; d[0], d[1] = (g, t), d[2], d[3] = (g + 8, t).
NLDF_PTX void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  NLDF_EITHER(simt::mma_m16n8k16(d, a, b0, b1),
              "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
              "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(d[0]),
              "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0),
              "r"(b1));
}

// --- Copies by the thread, asynchronous
// ---------------------------------------------------------------------

// 16 bytes from global to shared memory, both 16-byte aligned, past the L1 cache. Where `valid` is false,
// zeros are written and `source` is not read.
NLDF_PTX void cp_async_16(uint32_t target, const void* source, bool valid = true) {
  NLDF_EITHER(simt::cp_async(target, source, 16, valid),
              "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
              "r"(valid ? 16 : 0) : "memory");
}
// 4 bytes, both 4-byte aligned.
NLDF_PTX void cp_async_4(uint32_t target, const void* source, bool valid = true) {
  NLDF_EITHER(simt::cp_async(target, source, 4, valid),
              "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source),
              "r"(valid ? 4 : 0) : "memory");
}
NLDF_PTX void cp_async_commit() {
  NLDF_EITHER(simt::cp_async_commit(), "cp.async.commit_group;" :: : "memory");
}
// Until at most N of this thread's groups are under way. Others see the bytes after a barrier.
template <int N>
NLDF_PTX void cp_async_wait() {
  NLDF_EITHER(simt::cp_async_wait(N), "cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- Barriers
// -----------------------------------------------------------------------------------------------

// Named barrier `id` (1 ... 15) among `threads` threads, a multiple of 32; barrier_arrive does not wait.
NLDF_PTX void barrier_sync(int id, int threads) {
  NLDF_EITHER(simt::named_barrier(id, threads, true), "barrier.sync.aligned %0, %1;" ::"r"(id),
              "r"(threads) : "memory");
}
NLDF_PTX void barrier_arrive(int id, int threads) {
  NLDF_EITHER(simt::named_barrier(id, threads, false), "barrier.arrive.aligned %0, %1;" ::"r"(id),
              "r"(threads) : "memory");
}

// [sm_90] An mbarrier: 8 bytes of shared memory, 8-byte aligned. A phase ends when `count` arrivals and all
// announced bytes have come in. After init: fence_mbarrier_init, then a barrier of the block (cluster).
NLDF_PTX void mbarrier_init(uint32_t barrier, uint32_t count) {
  NLDF_EITHER(simt::mbarrier_init(barrier, count), "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier),
              "r"(count) : "memory");
}
NLDF_PTX void fence_mbarrier_init() {
  NLDF_EITHER(simt::fence_mbarrier_init(), "fence.mbarrier_init.release.cluster;" :: : "memory");
}
NLDF_PTX void mbarrier_arrive(uint32_t barrier) {
  NLDF_EITHER(simt::mbarrier_arrive(barrier, 0, true, false),
              "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives and announces `bytes` that copies will bring in this phase.
NLDF_PTX void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  NLDF_EITHER(simt::mbarrier_arrive(barrier, bytes, true, false),
              "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Announces bytes without arriving.
NLDF_PTX void mbarrier_expect_tx(uint32_t barrier, uint32_t bytes) {
  NLDF_EITHER(simt::mbarrier_arrive(barrier, bytes, false, false),
              "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier),
              "r"(bytes) : "memory");
}
// Arrives at a barrier of any block of the cluster: `barrier` comes from map_shared. The instruction's own
// release is the block's; with release.cluster the compiler puts MEMBAR.ALL.GPU before every arrival. That is
// enough to hand back a stage that wgmma has read and a bulk copy will fill, not to hand over plain stores.
NLDF_PTX void mbarrier_arrive_cluster(uint32_t barrier) {
  NLDF_EITHER(simt::mbarrier_arrive(barrier, 0, true, true),
              "mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Whether the phase of this parity has ended; may wait a while first, and may say no too early. The default
// form, which acquires for this block: bulk copies to it and arrivals of other blocks need no more, for no
// thread reads what another block's threads wrote with ordinary stores. One that acquired for the cluster
// would empty the L1 cache at every wait.
NLDF_PTX bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
#ifdef NLDF_SIMT
  return simt::mbarrier_try_wait(barrier, parity);
#else
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
#endif
}
// Waits for the end of the phase of this parity: a fresh barrier is in phase 0, and its "phase -1", of parity
// 1, counts as ended. With NLDF_TRAP_ON_HANG defined, a wait of about two seconds stops the kernel: tries are
// no measure, for each may itself wait as long as the hardware likes.
constexpr long long kHangCycles = 4'000'000'000;
NLDF_PTX void mbarrier_wait(uint32_t barrier, uint32_t parity) {
#if defined(NLDF_TRAP_ON_HANG) && !defined(NLDF_SIMT)
  const long long begun = clock64();
  while (!mbarrier_try_wait(barrier, parity))
    if (clock64() - begun > kHangCycles) __trap();
#else
  while (!mbarrier_try_wait(barrier, parity)) {
  }
#endif
}

// --- Bulk copies
// --------------------------------------------------------------------------------------------

// [sm_90] `bytes` (a multiple of 16) from global memory to this block's shared memory, both 16-byte aligned.
// They are taken off what `barrier` of this block expects. Called by one thread.
NLDF_PTX void bulk_load(uint32_t target, const void* source, uint32_t bytes, uint32_t barrier) {
  NLDF_EITHER(
      simt::bulk_load(target, source, bytes, barrier, 0),
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
      "l"(source), "r"(bytes), "r"(barrier) : "memory");
}
// The same to every block of the cluster whose bit is set in `blocks`: the same places in their shared
// memory, and their barriers count the bytes.
NLDF_PTX void bulk_load_multicast(uint32_t target, const void* source, uint32_t bytes, uint32_t barrier,
                                  uint16_t blocks) {
  NLDF_EITHER(simt::bulk_load(target, source, bytes, barrier, blocks),
              "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
              "[%0], [%1], %2, [%3], %4;" ::"r"(target),
              "l"(source), "r"(bytes), "r"(barrier), "h"(blocks) : "memory");
}
// Between this thread's ordinary accesses to shared memory and those of bulk copies or wgmma after it.
NLDF_PTX void fence_proxy_async() {
  NLDF_EITHER(simt::fence_proxy_async(), "fence.proxy.async.shared::cta;" :: : "memory");
}

// --- Clusters and registers
// ---------------------------------------------------------------------------------

// [sm_90] This block's number in its cluster.
NLDF_PTX uint32_t cluster_rank() {
#ifdef NLDF_SIMT
  return simt::cluster_rank();
#else
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#endif
}
// The address, in block `rank` of the cluster, of what lies at `address` in this block.
NLDF_PTX uint32_t map_shared(uint32_t address, uint32_t rank) {
#ifdef NLDF_SIMT
  return simt::map_shared(address, rank);
#else
  uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
#endif
}
// The two halves of a barrier of all threads of the cluster. No block may end while others may still reach
// into its shared memory.
NLDF_PTX void cluster_arrive() {
  NLDF_EITHER(simt::cluster_arrive(), "barrier.cluster.arrive.release.aligned;" :: : "memory");
}
NLDF_PTX void cluster_wait() {
  NLDF_EITHER(simt::cluster_wait(), "barrier.cluster.wait.acquire.aligned;" :: : "memory");
}
// [sm_90a] The registers a thread of this warpgroup may hold, given back or taken; all its warps call it.
template <int Registers>
NLDF_PTX void registers_lower() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "a multiple of 8 in [24, 256]");
  NLDF_EITHER(simt::set_registers(Registers), "setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
NLDF_PTX void registers_raise() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "a multiple of 8 in [24, 256]");
  NLDF_EITHER(simt::set_registers(Registers), "setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace nldf::ptx

#include "cuda/wgmma.cuh"
