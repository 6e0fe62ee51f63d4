// The whole ResMLP in one kernel with wgmma, for compute capability 9.0; width 256. Not yet measured on a
// GPU.
//
// A block of three warpgroups walks tiles of 128 rays. Two warpgroups compute, 64 rays each; the third is
// one thread that streams weights into a ring of shared memory with bulk copies. Activations never leave
// registers: the accumulators of a layer, rounded to halves, are the A fragments of the next. Only the
// residual lies in shared memory, 16 bytes of a thread's own at a time, so it needs no barrier and meets no
// bank conflict. In clusters of two blocks each loads half of every chunk for both.
//
// What keeps ptxas from spilling: accumulators start from zero by the first wgmma of a layer, biases and the
// residual come after; chunk c is waited for only when chunk c + 1 has been issued.
#include "core/launch.cuh"
#include "ops/resmlp_cuda.h"
#include "ops/resmlp_input.cuh"
#include "ops/resmlp_pack.h"
#include "ops/resmlp_tail.cuh"

namespace nldf {

namespace {

constexpr int kGroups = 2;           // computing warpgroups
constexpr int kRows = 64 * kGroups;  // rays of a block
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kStages = 5;
constexpr int kStageBytes = kWgmmaWidth * kWgmmaDepth * 2;
constexpr int kPerLayer = kWgmmaWidth / kWgmmaDepth;
constexpr int kBiasBytes = kWgmmaWidth * 4;
constexpr int kVectors = 16;           // 16-byte pieces of a thread's share of the trunk
constexpr int kVectorStep = 128 * 16;  // bytes between a thread's pieces
constexpr int kGroupBytes = kVectors * kVectorStep;
// Offsets in shared memory.
constexpr int kResidualAt = kStages * kStageBytes;
constexpr int kBiasAt = kResidualAt + kGroups * kGroupBytes;
constexpr int kBarriersAt = kBiasAt + 2 * kBiasBytes;
constexpr int kShared = kBarriersAt + 2 * kStages * 8;
static_assert(kShared <= 227 << 10, "fits sm_90");
// A layer's biases come with its second chunk, into the place of the layer before the last one. That chunk
// waits until the first chunk of the layer before has been used, so no warp still reads there.
static_assert(kStages <= kPerLayer + 1, "two places for biases are enough");

#if NLDF_HOPPER
// A place in the ring, and the parity of the phase in which it is used.
struct Turn {
  uint32_t stage = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// Tiles of a block: every block of a cluster walks as many, so that they can share the stream.
struct Walk {
  int64_t first, step, end;  // in clusters' tiles
};
template <int Cluster>
__device__ __forceinline__ Walk walk(const ResmlpCudaArgs& args) {
  const int64_t rows = kRows * Cluster;
  return {blockIdx.x / Cluster, gridDim.x / Cluster, (args.rays + rows - 1) / rows};
}

template <int Cluster>
__device__ __forceinline__ void produce(const ResmlpCudaArgs& args, uint32_t shared, uint32_t rank) {
  const uint32_t full = shared + kBarriersAt, empty = full + 8 * kStages;
  const int head = static_cast<int>(resmlp_head_chunks(args.in_dim, kWgmmaWidth, kLayoutWgmma));
  const int body = static_cast<int>(args.layers) * kPerLayer;
  const Walk tiles = walk<Cluster>(args);
  Turn turn;
  for (int64_t tile = tiles.first; tile < tiles.end; tile += tiles.step) {
    for (int c = 0; c < head + body + 1; ++c, turn.next()) {
      const uint32_t barrier = full + 8 * turn.stage, target = shared + turn.stage * kStageBytes;
      const uint16_t* source = args.weights + static_cast<int64_t>(c) * (kStageBytes / 2);
      const int layer = (c - head) / kPerLayer;
      const bool with_bias = c >= head && c < head + body && (c - head) % kPerLayer == 1;
      ptx::mbarrier_wait(empty + 8 * turn.stage, turn.parity ^ 1);
      ptx::mbarrier_arrive_expect_tx(barrier, kStageBytes + (with_bias ? kBiasBytes : 0));
      if constexpr (Cluster == 1) {
        ptx::bulk_load(target, source, kStageBytes, barrier);
      } else {
        constexpr uint32_t kShare = kStageBytes / Cluster;
        ptx::bulk_load_multicast(target + rank * kShare, source + rank * (kShare / 2), kShare, barrier,
                                 static_cast<uint16_t>((1 << Cluster) - 1));
      }
      if (with_bias) {
        ptx::bulk_load(shared + kBiasAt + layer % 2 * kBiasBytes, args.body_bias + layer * kWgmmaWidth,
                       kBiasBytes, barrier);
      }
    }
  }
}

// What a computing thread knows of its place: rays `ray` and `ray` + 8 of the batch; four columns from
// 16 j + col on of each.
struct Consumer {
  uint32_t shared;          // address of the block's shared memory
  unsigned char* residual;  // this thread's first piece
  const float* bias;        // shared; this thread's first four of place 0
  uint4* first;             // scratch in global memory; this thread's first piece
  int64_t ray;
  int col;
  int group;     // number of the warpgroup
  bool elected;  // one lane of the warp
  bool turns;    // the warpgroups take turns at the tensor cores
};

// Says to the producers of the cluster that this warp is through with a stage.
template <int Cluster>
__device__ __forceinline__ void release(const Consumer& me, uint32_t stage) {
  const uint32_t empty = me.shared + kBarriersAt + 8 * (kStages + stage);
  __syncwarp();
  if (!me.elected) return;
  if constexpr (Cluster == 1) {
    ptx::mbarrier_arrive(empty);
  } else {
#pragma unroll
    for (uint32_t rank = 0; rank < Cluster; ++rank)
      ptx::mbarrier_arrive_cluster(ptx::map_shared(empty, rank));
  }
}

template <int Cluster>
__device__ __forceinline__ uint64_t wait_full(const Consumer& me, const Turn& turn) {
  ptx::mbarrier_wait(me.shared + kBarriersAt + 8 * turn.stage, turn.parity);
  return ptx::matrix_descriptor_128(me.shared + turn.stage * kStageBytes);
}

// Where the warpgroups take turns, one multiplies while the other adds biases and rounds. A warpgroup begins
// a layer when the other has handed in all products of its own, at the named barrier 1 + its number.
constexpr int kTurnThreads = 128 * kGroups;
__device__ __forceinline__ void await_turn(const Consumer& me) {
  if (me.turns) ptx::barrier_sync(1 + me.group, kTurnThreads);
}
__device__ __forceinline__ void pass_turn(const Consumer& me) {
  if (me.turns) ptx::barrier_arrive(2 - me.group, kTurnThreads);
}

// sums = x times a layer's four chunks.
template <int Cluster>
__device__ __forceinline__ void multiply(const Consumer& me, Turn& turn, float (&sums)[128],
                                         const uint32_t (&x)[64]) {
  uint32_t before = 0;
  await_turn(me);
#pragma unroll
  for (int c = 0; c < kPerLayer; ++c) {
    const uint64_t weights = wait_full<Cluster>(me, turn);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int j = 4 * (4 * c + k);
      ptx::wgmma_rs<256>(sums, x[j], x[j + 1], x[j + 2], x[j + 3], weights + 2 * k, c + k > 0);
    }
    ptx::wgmma_commit();
    if (c) {
      ptx::wgmma_wait<1>();
      release<Cluster>(me, before);
    }
    before = turn.stage;
    turn.next();
  }
  pass_turn(me);
  ptx::wgmma_wait<0>();
  release<Cluster>(me, before);
}

// A fragments of 64 columns of the input.
__device__ __forceinline__ void input_fragments(const ResmlpCudaArgs& args, const Consumer& me, int chunk,
                                                uint32_t (&a)[16]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t col = chunk * kWgmmaDepth + 16 * k + me.col;
    const float4 u = resmlp_input(args, me.ray, col), v = resmlp_input(args, me.ray + 8, col);
    a[4 * k] = ptx::pack_half2(u.x, u.y), a[4 * k + 1] = ptx::pack_half2(v.x, v.y);
    a[4 * k + 2] = ptx::pack_half2(u.z, u.w), a[4 * k + 3] = ptx::pack_half2(v.z, v.w);
  }
}

// x = relu(head(input) + bias of the frame), kept as the residual and for the last skip.
template <int Cluster>
__device__ __forceinline__ void head(const ResmlpCudaArgs& args, const Consumer& me, Turn& turn,
                                     float (&sums)[128], uint32_t (&x)[64]) {
  const int chunks = static_cast<int>(resmlp_head_chunks(args.in_dim, kWgmmaWidth, kLayoutWgmma));
#pragma unroll 1
  for (int c = 0; c < chunks; ++c) {
    uint32_t a[16];
    input_fragments(args, me, c, a);
    const uint64_t weights = wait_full<Cluster>(me, turn);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      ptx::wgmma_rs<256>(sums, a[4 * k], a[4 * k + 1], a[4 * k + 2], a[4 * k + 3], weights + 2 * k,
                         c + k > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    release<Cluster>(me, turn.stage);
    turn.next();
  }
  const auto frame_bias = [&](int64_t ray) {
    return args.head_bias + (ray < args.rays ? ray : args.rays - 1) / args.rays_per_frame * kWgmmaWidth +
           me.col;
  };
  const float *upper = frame_bias(me.ray), *lower = frame_bias(me.ray + 8);
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const float4 u = four(upper + 16 * j), v = four(lower + 16 * j);
    x[4 * j] = ptx::pack_half2_relu(sums[8 * j] + u.x, sums[8 * j + 1] + u.y);
    x[4 * j + 1] = ptx::pack_half2_relu(sums[8 * j + 2] + v.x, sums[8 * j + 3] + v.y);
    x[4 * j + 2] = ptx::pack_half2_relu(sums[8 * j + 4] + u.z, sums[8 * j + 5] + u.w);
    x[4 * j + 3] = ptx::pack_half2_relu(sums[8 * j + 6] + v.z, sums[8 * j + 7] + v.w);
    const uint4 piece = make_uint4(x[4 * j], x[4 * j + 1], x[4 * j + 2], x[4 * j + 3]);
    *reinterpret_cast<uint4*>(me.residual + j * kVectorStep) = piece;
    if (args.layers) me.first[j * 128] = piece;
  }
}

// Biases are read by ordinary loads, and overwritten by a bulk copy once this warp has released a later
// stage: the fence orders the two, which an mbarrier alone does only for accesses of one kind.
__device__ __forceinline__ void done_with_bias() {
  ptx::fence_proxy_async();
}

// x = relu(sums + bias).
__device__ __forceinline__ void hidden(const Consumer& me, const float (&sums)[128], uint32_t (&x)[64]) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const float4 b = four(me.bias + 16 * j);
    x[4 * j] = ptx::pack_half2_relu(sums[8 * j] + b.x, sums[8 * j + 1] + b.y);
    x[4 * j + 1] = ptx::pack_half2_relu(sums[8 * j + 2] + b.x, sums[8 * j + 3] + b.y);
    x[4 * j + 2] = ptx::pack_half2_relu(sums[8 * j + 4] + b.z, sums[8 * j + 5] + b.w);
    x[4 * j + 3] = ptx::pack_half2_relu(sums[8 * j + 6] + b.z, sums[8 * j + 7] + b.w);
  }
  done_with_bias();
}

// x = residual + sums + bias.
__device__ __forceinline__ void residual(const Consumer& me, const float (&sums)[128], uint32_t (&x)[64]) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const float4 b = four(me.bias + kWgmmaWidth + 16 * j);
    uint4* place = reinterpret_cast<uint4*>(me.residual + j * kVectorStep);
    const uint4 kept = *place;
    const auto sum = [&](int i, uint32_t old, float low, float high) {
      const float2 r = ptx::unpack_half2(old);
      x[4 * j + i] =
          ptx::pack_half2(sums[8 * j + 2 * i] + (r.x + low), sums[8 * j + 2 * i + 1] + (r.y + high));
    };
    sum(0, kept.x, b.x, b.y), sum(1, kept.y, b.x, b.y), sum(2, kept.z, b.z, b.w), sum(3, kept.w, b.z, b.w);
    *place = make_uint4(x[4 * j], x[4 * j + 1], x[4 * j + 2], x[4 * j + 3]);
  }
  done_with_bias();
}

// x += x_0, the skip over the whole body.
__device__ __forceinline__ void skip(const Consumer& me, uint32_t (&x)[64]) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    const uint4 kept = me.first[j * 128];
    const auto sum = [&](int i, uint32_t old) {
      const float2 u = ptx::unpack_half2(x[4 * j + i]), v = ptx::unpack_half2(old);
      x[4 * j + i] = ptx::pack_half2(u.x + v.x, u.y + v.y);
    };
    sum(0, kept.x), sum(1, kept.y), sum(2, kept.z), sum(3, kept.w);
  }
}

// Writes the trunk as it stands after `layer`, where `dump_layer` names it.
__device__ __forceinline__ void dump(const ResmlpCudaArgs& args, const Consumer& me, int layer,
                                     const uint32_t (&x)[64]) {
  if (!args.dump || args.dump_layer != layer) return;
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int64_t ray = me.ray + i % 2 * 8;
    const int col = i / 4 * 16 + me.col + i % 4 / 2 * 2;
    if (ray < args.rays) *reinterpret_cast<uint32_t*>(args.dump + ray * kWgmmaWidth + col) = x[i];
  }
}

// The network's outputs of this thread's rays, and their pixels.
template <int Cluster>
__device__ __forceinline__ void tail(const ResmlpCudaArgs& args, const Consumer& me, Turn& turn,
                                     float (&all)[128], const uint32_t (&x)[64]) {
  float (&sums)[kWgmmaOutputs / 2] = reinterpret_cast<float (&)[kWgmmaOutputs / 2]>(all);
  const uint64_t weights = wait_full<Cluster>(me, turn);
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < kWgmmaWidth / 16; ++k) {
    constexpr int kImage = kWgmmaOutputs * kWgmmaDepth * 2 / 16;  // in the descriptor's 16 bytes
    ptx::wgmma_rs<kWgmmaOutputs>(sums, x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3],
                                 weights + k / 4 * kImage + k % 4 * 2, k > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  release<Cluster>(me, turn.stage);
  turn.next();
  const int outputs = static_cast<int>(args.out_dim), first = ptx::opaque(me.col / 2);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t ray = me.ray + 8 * half;
    Pixel pixel;
#pragma unroll
    for (int i = 0; i < kWgmmaOutputs / 4; ++i) {
      const int col = i / 2 * 8 + first + i % 2;
      if (col >= outputs) continue;
      const float v = sums[i / 2 * 4 + 2 * half + i % 2] + args.tail_bias[col];
      if (args.out && ray < args.rays) args.out[ray * outputs + col] = v;
      pixel.add(col, outputs, v);
    }
    if (args.pixels) pixel.store(args.pixels + ray * 4, ray < args.rays);
  }
}

template <int Cluster>
__device__ __forceinline__ void consume(const ResmlpCudaArgs& args, unsigned char* shared, uint32_t rank) {
  const int group = threadIdx.x / 128, thread = threadIdx.x % 128, lane = thread % 32;
  Consumer me;
  me.group = group;
  me.turns = args.turns != 0;
  me.shared = ptx::shared_address(shared);
  me.residual = shared + kResidualAt + group * kGroupBytes + thread * 16;
  me.col = lane % 4 * 4;
  me.bias = reinterpret_cast<const float*>(shared + kBiasAt) + me.col;
  me.first = reinterpret_cast<uint4*>(args.first) +
             (static_cast<int64_t>(blockIdx.x) * kGroups + group) * (kGroupBytes / 16) + thread;
  me.elected = lane == 0;
  const int layers = static_cast<int>(args.layers);
  const Walk tiles = walk<Cluster>(args);
  Turn turn;
  if (group == 1) pass_turn(me);  // the first layer is group 0's
#pragma unroll 1
  for (int64_t tile = tiles.first; tile < tiles.end; tile += tiles.step) {
    float sums[128];
    uint32_t x[64];
    me.ray = (tile * Cluster + rank) * kRows + group * 64 + thread / 32 * 16 + lane / 4;
    head<Cluster>(args, me, turn, sums, x);
    dump(args, me, 0, x);
#pragma unroll 1
    for (int layer = 0; layer < layers; layer += 2) {
      multiply<Cluster>(me, turn, sums, x);
      hidden(me, sums, x);
      dump(args, me, layer + 1, x);
      multiply<Cluster>(me, turn, sums, x);
      residual(me, sums, x);
      dump(args, me, layer + 2, x);
    }
    if (layers) skip(me, x);
    tail<Cluster>(args, me, turn, sums, x);
  }
  if (group == 0) await_turn(me);  // the last one that group 1 passes
}

#endif

template <int Cluster>
__global__ void __launch_bounds__(kThreads, 1) resmlp_wgmma_kernel(ResmlpCudaArgs args) {
#if NLDF_HOPPER
  NLDF_DYNAMIC_SHARED(shared);
  const uint32_t address = ptx::shared_address(shared);
  const uint32_t rank = Cluster == 1 ? 0 : ptx::cluster_rank();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(address + kBarriersAt + 8 * stage, 1);
      ptx::mbarrier_init(address + kBarriersAt + 8 * (kStages + stage), 4 * kGroups * Cluster);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if constexpr (Cluster != 1) {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
  if (threadIdx.x / 128 == kGroups) {
    ptx::registers_lower<24>();
    if (threadIdx.x % 128 == 0) produce<Cluster>(args, address, rank);
    __syncwarp();
  } else {
    ptx::registers_raise<240>();
    consume<Cluster>(args, shared, rank);
  }
  if constexpr (Cluster != 1) {
    ptx::cluster_arrive();  // no block leaves while the other may still arrive at its barriers
    ptx::cluster_wait();
  }
#else
  __trap();  // the launcher's caller chooses this kernel for compute capability 9.0 alone
#endif
}

template <int Cluster>
void launch_wgmma(const ResmlpCudaArgs& args, const Exec& exec) {
  const int64_t tiles = (args.rays + kRows * Cluster - 1) / (kRows * Cluster);
  const unsigned blocks = static_cast<unsigned>(std::min(args.blocks / Cluster, tiles)) * Cluster;
  launch_shape("resmlp_wgmma", resmlp_wgmma_kernel<Cluster>, {dim3(blocks), kThreads, kShared, Cluster}, exec,
               args);
}

}  // namespace

void resmlp_wgmma_cuda(const ResmlpCudaArgs& args, const Exec& exec) {
  if (args.rays == 0) return;
  if (args.width != kWgmmaWidth || args.rows != kRows) {
    throw std::invalid_argument("resmlp_wgmma: width must be 256 and rows 128, got " +
                                std::to_string(args.width) + " and " + std::to_string(args.rows));
  }
  // A cluster needs two blocks; a batch of one tile has work for one.
  if (args.blocks < 2 || args.rays <= kRows) return launch_wgmma<1>(args, exec);
  launch_wgmma<2>(args, exec);
}

}  // namespace nldf
