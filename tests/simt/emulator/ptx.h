// What csrc/cuda/ptx.cuh calls under NLDF_SIMT. The functions are opaque to the compiler on purpose: it must
// not move a kernel's memory accesses across them.
#pragma once

#include <cstdint>

namespace simt {

uint32_t shared_address(const void* p);

void ldmatrix(uint32_t* r, uint32_t row, int matrices, bool transposed);
void mma_m16n8k16(float* d, const uint32_t* a, uint32_t b0, uint32_t b1);

void cp_async(uint32_t target, const void* source, uint32_t bytes, bool valid);
void cp_async_commit();
void cp_async_wait(int groups);

void named_barrier(int id, int threads, bool wait);

void mbarrier_init(uint32_t barrier, uint32_t count);
void fence_mbarrier_init();
void mbarrier_arrive(uint32_t barrier, uint32_t bytes, bool arrives, bool cluster);
bool mbarrier_try_wait(uint32_t barrier, uint32_t parity);

void bulk_load(uint32_t target, const void* source, uint32_t bytes, uint32_t barrier, uint16_t blocks);
void fence_proxy_async();

uint32_t cluster_rank();
uint32_t map_shared(uint32_t address, uint32_t rank);
void cluster_arrive();
void cluster_wait();
void set_registers(int registers);

void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int groups);
// a in registers where it is not null, else through descriptor a_desc.
void wgmma(int n, float* d, const uint32_t* a, uint64_t a_desc, uint64_t b_desc, bool accumulate);

}  // namespace simt
