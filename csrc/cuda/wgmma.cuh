// The warpgroup's matrix instructions of sm_90a; part of ptx.cuh, which includes it.
#pragma once

#include "cuda/ptx.cuh"

namespace nldf::ptx {

// Orders this warp's accesses to registers before the next wgmma. Here every commit group begins with one.
NLDF_PTX void wgmma_fence() {
  NLDF_EITHER(simt::wgmma_fence(), "wgmma.fence.sync.aligned;" :: : "memory");
}
// Keeps the compiler from moving an accumulator's initialisation behind the fence, for products that add to
// it.
template <int Count>
NLDF_PTX void wgmma_fence_operands([[maybe_unused]] float (&d)[Count]) {
#ifndef NLDF_SIMT
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}
NLDF_PTX void wgmma_commit() {
  NLDF_EITHER(simt::wgmma_commit(), "wgmma.commit_group.sync.aligned;" :: : "memory");
}
// Until at most N groups are under way. Accumulators of a group may be touched only after its wait.
template <int N>
NLDF_PTX void wgmma_wait() {
  NLDF_EITHER(simt::wgmma_wait(N), "wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// How the 16-byte columns of a matrix in shared memory are permuted, by its descriptor's top two bits.
enum class Swizzle : uint64_t { none = 0, bytes128 = 1, bytes64 = 2, bytes32 = 3 };

// Descriptor of a K-major matrix of halves at `address`: rows of 8 groups lie `stride_bytes` apart; with no
// swizzle `leading_bytes` separates the 8x8 cores along K, else the hardware ignores it.
NLDF_PTX uint64_t matrix_descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes,
                                    Swizzle swizzle) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}
// The usual one: rows of 128 bytes (64 halves along K), 128-byte swizzle, 1024-byte aligned. Element (n, k)
// lies at byte 128 n + 16 ((k / 8) ^ (n % 8)) + 2 (k % 8). The next 16 along K begin at address + 32.
NLDF_PTX uint64_t matrix_descriptor_128(uint32_t address) {
  return matrix_descriptor(address, 16, 1024, Swizzle::bytes128);
}

// d [64, N] = a [64, 16] b [16, N] (+ d where `accumulate`), halves in, floats out; b is K-major: its rows in
// shared memory are the columns of the product. With w = warp % 4, g = lane / 4, t = 2 (lane % 4):
// d[4 j], d[4 j + 1] = (16 w + g, 8 j + t), d[4 j + 2], d[4 j + 3] = (16 w + g + 8, 8 j + t);
// a0 = (16 w + g, t), a1 = (16 w + g + 8, t), a2 = (16 w + g, t + 8), a3 = (16 w + g + 8, t + 8), as mma's.
template <int N>
NLDF_PTX void wgmma_rs(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b,
                       bool accumulate);
// The same with a in shared memory, K-major, through a descriptor.
template <int N>
NLDF_PTX void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate);

#ifdef NLDF_SIMT
template <int N>
NLDF_PTX void wgmma_rs(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b,
                       bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "N is a multiple of 8 in [8, 256]");
  const uint32_t a[4] = {a0, a1, a2, a3};
  simt::wgmma(N, d, a, 0, b, accumulate);
}
template <int N>
NLDF_PTX void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "N is a multiple of 8 in [8, 256]");
  simt::wgmma(N, d, nullptr, a, b, accumulate);
}
#else
// Operand numbers are spelled by the preprocessor: TEN() is %0 ... %9, TEN(3) is %30 ... %39.
// clang-format off
#define NLDF_TEN(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define NLDF_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NLDF_D16(i) NLDF_D4(i), NLDF_D4(i + 4), NLDF_D4(i + 8), NLDF_D4(i + 12)
#define NLDF_D64(i) NLDF_D16(i), NLDF_D16(i + 16), NLDF_D16(i + 32), NLDF_D16(i + 48)
// N; the operands d, as numbers and as variables; the numbers of the six operands after them.
#define NLDF_WGMMA(N, D, VARIABLES, o0, o1, o2, o3, o4, o5)                                                  \
  template <>                                                                                                \
  NLDF_PTX void wgmma_rs<N>(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,           \
                            uint64_t b, bool accumulate) {                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o5 ", 0;\n"                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" D "}, "                          \
                 "{" o0 ", " o1 ", " o2 ", " o3 "}, " o4 ", p, 1, 1, 0;\n}"                                  \
                 : VARIABLES                                                                                 \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(accumulate)));           \
  }                                                                                                          \
  template <>                                                                                                \
  NLDF_PTX void wgmma_ss<N>(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {                    \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o2 ", 0;\n"                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" D "}, "                          \
                 o0 ", " o1 ", p, 1, 1, 0, 0;\n}"                                                            \
                 : VARIABLES                                                                                 \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                                       \
  }
#define NLDF_VARIABLES(...) __VA_ARGS__

NLDF_WGMMA(8, "%0, %1, %2, %3", NLDF_VARIABLES(NLDF_D4(0)), "%4", "%5", "%6", "%7", "%8", "%9")
NLDF_WGMMA(16, "%0, %1, %2, %3, %4, %5, %6, %7", NLDF_VARIABLES(NLDF_D4(0), NLDF_D4(4)),
           "%8", "%9", "%10", "%11", "%12", "%13")
NLDF_WGMMA(32, NLDF_TEN() "%10, %11, %12, %13, %14, %15", NLDF_VARIABLES(NLDF_D16(0)),
           "%16", "%17", "%18", "%19", "%20", "%21")
NLDF_WGMMA(64, NLDF_TEN() NLDF_TEN(1) NLDF_TEN(2) "%30, %31", NLDF_VARIABLES(NLDF_D16(0), NLDF_D16(16)),
           "%32", "%33", "%34", "%35", "%36", "%37")
NLDF_WGMMA(128, NLDF_TEN() NLDF_TEN(1) NLDF_TEN(2) NLDF_TEN(3) NLDF_TEN(4) NLDF_TEN(5) "%60, %61, %62, %63",
           NLDF_VARIABLES(NLDF_D64(0)), "%64", "%65", "%66", "%67", "%68", "%69")
NLDF_WGMMA(256, NLDF_TEN() NLDF_TEN(1) NLDF_TEN(2) NLDF_TEN(3) NLDF_TEN(4) NLDF_TEN(5) NLDF_TEN(6) NLDF_TEN(7)
           NLDF_TEN(8) NLDF_TEN(9) NLDF_TEN(10) NLDF_TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127",
           NLDF_VARIABLES(NLDF_D64(0), NLDF_D64(64)), "%128", "%129", "%130", "%131", "%132", "%133")
// clang-format on

#undef NLDF_TEN
#undef NLDF_D4
#undef NLDF_D16
#undef NLDF_D64
#undef NLDF_WGMMA
#undef NLDF_VARIABLES
#endif

}  // namespace nldf::ptx
