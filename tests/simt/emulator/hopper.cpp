// sm_90: mbarriers, bulk copies, wgmma. An mbarrier's 8 bytes hold a mark and the number of an object here.
#include <cstring>

#include "state.h"

namespace simt {

namespace {

constexpr uint32_t kMark = 0x4d424152;

int mbarrier_number(const unsigned char* words, void* where) {
  uint32_t v[2];
  memcpy(v, words, 8);
  if (v[0] != kMark || v[1] >= state.mbarriers.size())
    fail(where, nullptr, "mbarrier: not initialised, or overwritten");
  return static_cast<int>(v[1]);
}

void advance(MBarrier& m) {
  if (m.pending || m.bytes) return;
  ++m.phase;
  m.pending = m.count;
  join(m.done, m.arriving);
  m.arriving.clear();
  for (const int id : m.waiters) wake(id);
  m.waiters.clear();
}

void need_living(int rank, const char* what, void* where) {
  if (!state.blocks[rank].live)
    fail(where, nullptr, "%s reaches into block %u of the cluster, which has ended", what,
         state.blocks[rank].index.x);
}

void need_fence(const MBarrier& m, const char* what, void* where) {
  if (!m.fenced) fail(where, nullptr, "%s: no fence_mbarrier_init after the barrier's initialisation", what);
}

}  // namespace

void mbarrier_init(uint32_t barrier, uint32_t count) {
  unsigned char* words = shared_bytes(barrier, 8, 8, "mbarrier_init", SIMT_HERE);
  if (shared_block(barrier) != me().block)
    fail(SIMT_HERE, nullptr, "mbarrier_init: a barrier of another block");
  if (count < 1) fail(SIMT_HERE, nullptr, "mbarrier_init: a count of %u", count);
  check(words, 8, Access::write, SIMT_HERE);
  const uint32_t v[2] = {kMark, static_cast<uint32_t>(state.mbarriers.size())};
  memcpy(words, v, 8);
  MBarrier m{};
  m.count = m.pending = count;
  m.block = me().block;
  m.initialiser = state.current;
  state.mbarriers.push_back(std::move(m));
}

void fence_mbarrier_init() {
  for (MBarrier& m : state.mbarriers)
    if (m.initialiser == state.current) m.fenced = true;
}

void mbarrier_arrive(uint32_t barrier, uint32_t bytes, bool arrives, bool cluster) {
  if (!cluster && shared_block(barrier) != me().block)
    fail(SIMT_HERE, nullptr, "mbarrier_arrive: the address is of the cluster; use mbarrier_arrive_cluster");
  const unsigned char* words = shared_bytes(barrier, 8, 8, "mbarrier_arrive", SIMT_HERE);
  const int rank = shared_block(barrier);
  need_living(rank, "mbarrier_arrive_cluster", SIMT_HERE);
  check_written_by(words, SIMT_HERE);
  MBarrier& m = state.mbarriers[mbarrier_number(words, SIMT_HERE)];
  if (rank != me().block) need_fence(m, "mbarrier_arrive_cluster", SIMT_HERE);
  if (arrives && !m.pending)
    fail(SIMT_HERE, nullptr, "mbarrier: more arrivals than its count of %u", m.count);
  if (race_mode) join(m.arriving, me().clock);
  tick(me());
  m.bytes += bytes;
  if (m.bytes > (1 << 20) - 1) fail(SIMT_HERE, nullptr, "mbarrier: more than 2^20 - 1 bytes announced");
  if (arrives) --m.pending;
  advance(m);
  reschedule();
}

// Waits, or (with random schedules, now and then) says at once that it does not know yet, as hardware may.
bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
  const unsigned char* words = shared_bytes(barrier, 8, 8, "mbarrier_try_wait", SIMT_HERE);
  if (shared_block(barrier) != me().block)
    fail(SIMT_HERE, nullptr, "mbarrier_try_wait: a barrier of another block");
  check_written_by(words, SIMT_HERE);
  const int number = mbarrier_number(words, SIMT_HERE);
  if (state.seed > 1 && (random_bits() & 7) == 0) {
    reschedule();
    if ((state.mbarriers[number].phase & 1) == (parity & 1)) {
      // Blocks all the same, so that a spinning warp of high priority cannot starve the others.
      state.mbarriers[number].waiters.push_back(state.current);
      block_me("mbarrier_try_wait", SIMT_HERE);
      reschedule();
    }
    return false;
  }
  while ((state.mbarriers[number].phase & 1) == (parity & 1)) {
    state.mbarriers[number].waiters.push_back(state.current);
    block_me("mbarrier_try_wait", SIMT_HERE);
    reschedule();
  }
  if (race_mode) join(me().clock, state.mbarriers[number].done);
  return true;
}

void bulk_load(uint32_t target, const void* source, uint32_t bytes, uint32_t barrier, uint16_t blocks) {
  if (!bytes || bytes % 16) fail(SIMT_HERE, nullptr, "bulk_load: %u bytes, not a multiple of 16", bytes);
  if (reinterpret_cast<uintptr_t>(source) % 16)
    fail(SIMT_HERE, nullptr, "bulk_load: the source is not 16-byte aligned");
  if (shared_block(target) != me().block || shared_block(barrier) != me().block)
    fail(SIMT_HERE, nullptr, "bulk_load: target and barrier must be this block's own");
  const uint32_t all = blocks ? blocks : 1u << me().block;
  if (all >> state.blocks.size())
    fail(SIMT_HERE, nullptr, "bulk_load_multicast: mask %x, cluster of %zu", all, state.blocks.size());
  Clock clock;
  start_async(&clock);
  const int agent = state.agents + state.current;
  check_async(source, bytes, Access::read, agent, clock, true, SIMT_HERE);
  for (int rank = 0; rank < static_cast<int>(state.blocks.size()); ++rank) {
    if (!(all >> rank & 1)) continue;
    need_living(rank, "bulk_load", SIMT_HERE);
    unsigned char* to = shared_bytes(map_shared(target, rank), bytes, 16, "bulk_load", SIMT_HERE);
    const unsigned char* words = shared_bytes(map_shared(barrier, rank), 8, 8, "bulk_load", SIMT_HERE);
    check_written_by(words, SIMT_HERE);
    const int number = mbarrier_number(words, SIMT_HERE);
    need_fence(state.mbarriers[number], "bulk_load", SIMT_HERE);
    check_async(to, bytes, Access::write, agent, clock, true, SIMT_HERE);
    memset(to, kPoison, bytes);
    state.bulks.push_back({to, source, bytes, number, rank, clock});
  }
  reschedule();
}

void run_bulk(size_t i) {
  const Bulk bulk = std::move(state.bulks[i]);
  state.bulks.erase(state.bulks.begin() + static_cast<ptrdiff_t>(i));
  need_living(bulk.block, "bulk_load", nullptr);
  memcpy(bulk.target, bulk.source, bulk.bytes);
  ++state.stats.copies;
  MBarrier& m = state.mbarriers[bulk.barrier];
  m.bytes -= bulk.bytes;
  if (race_mode) join(m.arriving, bulk.clock);
  advance(m);
}

void fence_proxy_async() {
  Fibre& f = me();
  if (!race_mode) return;
  f.proxy_fence = f.clock[f.id];
  tick(f);
}

void set_registers(int registers) {
  struct Part {
    int registers;
  } part{registers};
  meet(
      "setmaxnreg", ~0u, &part,
      [](void** parts, uint32_t) {
        for (int l = 1; l < kLanes; ++l)
          if (static_cast<Part*>(parts[l])->registers != static_cast<Part*>(parts[0])->registers)
            fail(nullptr, nullptr, "setmaxnreg: lanes of one warp disagree");
        my_warp().registers = static_cast<Part*>(parts[0])->registers;
      },
      false, SIMT_HERE);
}

// --- wgmma: every warp computes its 16 rows, as late as its wait allows -----------------------------
// While one is under way its accumulators are poison, so that whoever reads them too early sees NaNs and
// whoever writes them loses what was written.

namespace {

// The byte at which element (row, k) lies, by the descriptor of a K-major matrix of halves.
uint32_t element_address(uint64_t desc, int row, int k) {
  const uint32_t start = static_cast<uint32_t>(desc & 0x3fff) << 4;
  const uint32_t leading = static_cast<uint32_t>(desc >> 16 & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(desc >> 32 & 0x3fff) << 4;
  const uint32_t group = static_cast<uint32_t>(row / 8), in_group = static_cast<uint32_t>(row % 8),
                 kk = static_cast<uint32_t>(k);
  if (desc >> 49 & 7) fail(nullptr, nullptr, "wgmma: base offsets other than 0 are not emulated");
  switch (desc >> 62) {
    case 0:
      return start + group * stride + kk / 8 * leading + in_group * 16 + kk % 8 * 2;
    case 1: {
      const uint32_t a = start + group * stride + in_group * 128 + kk * 2;
      return a ^ (a >> 7 & 7) << 4;
    }
    case 2: {
      const uint32_t a = start + group * stride + in_group * 64 + kk * 2;
      return a ^ (a >> 7 & 3) << 4;
    }
    default: {
      const uint32_t a = start + group * stride + in_group * 32 + kk * 2;
      return a ^ (a >> 7 & 1) << 4;
    }
  }
}

const unsigned char* eight(uint64_t desc, int row, int k, void* where) {
  return shared_bytes(element_address(desc, row, k), 16, 16, "wgmma: what its descriptor names", where);
}

void load_rows(float (*to)[16], uint64_t desc, int first, int rows) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < 16; k += 8) {
      uint16_t halves[8];
      memcpy(halves, eight(desc, first + r, k, nullptr), 16);
      for (int i = 0; i < 8; ++i) to[r][k + i] = from_half(halves[i]);
    }
}

void check_rows(uint64_t desc, int first, int rows, int agent, const Clock& clock, void* where) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < 16; k += 8)
      check_async(eight(desc, first + r, k, where), 16, Access::read, agent, clock, true, where);
}

void hold(Warp& w, const Product& p) {
  for (float* d : p.d) {
    bool held = false;
    for (auto& h : w.held) held = held || h.first == d;
    if (held) continue;
    w.held.emplace_back(d, std::vector<float>(d, d + p.n / 2));
    memset(d, kPoison, sizeof(float) * static_cast<size_t>(p.n / 2));
  }
}

void give_back(Warp& w) {
  for (auto& [d, values] : w.held) std::copy(values.begin(), values.end(), d);
  w.held.clear();
}

void run_product(const Product& p, int warp_row) {
  static float a[16][16], b[256][16], bt[16][256];
  load_rows(b, p.b_desc, 0, p.n);
  for (int n = 0; n < p.n; ++n)
    for (int k = 0; k < 16; ++k) bt[k][n] = b[n][k];
  if (!p.registers)
    load_rows(a, p.a_desc, warp_row, 16);
  else
    for (int l = 0; l < kLanes; ++l)
      for (int r = 0; r < 4; ++r)
        for (int i = 0; i < 2; ++i)
          a[l / 4 + 8 * (r % 2)][2 * (l % 4) + 8 * (r / 2) + i] = half_at(p.a[l][r], i);
  for (int row = 0; row < 16; ++row) {
    float sums[256] = {};
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < p.n; ++n) sums[n] += a[row][k] * bt[k][n];
    for (int n = 0; n < p.n; ++n) {
      float& d = p.d[row % 8 * 4 + n % 8 / 2][n / 8 * 4 + row / 8 * 2 + n % 2];
      d = (p.accumulate ? d : 0.0f) + sums[n];
    }
  }
  ++state.stats.wgmma;
}

// Runs all groups but the last `keep`.
void run_products(Warp& w, int keep) {
  give_back(w);
  size_t kept = 0;
  const int first = state.current - state.current % kLanes;
  for (Product& p : w.products) {
    if (p.group >= w.group - keep) {
      w.products[kept++] = p;
      continue;
    }
    run_product(p, w.number % 4 * 16);
    for (int l = 0; l < kLanes; ++l) finish_async(state.fibres[first + l], p.agent, p.clock);
  }
  w.products.resize(kept);
  for (const Product& p : w.products) hold(w, p);
}

}  // namespace

void wgmma_fence() {
  meet("wgmma_fence", ~0u, nullptr, [](void**, uint32_t) { my_warp().fenced = true; }, false, SIMT_HERE);
}

void wgmma_commit() {
  meet(
      "wgmma_commit", ~0u, nullptr,
      [](void**, uint32_t) {
        ++my_warp().group;
        my_warp().fenced = false;
      },
      false, SIMT_HERE);
}

void wgmma_wait(int groups) {
  meet(
      "wgmma_wait", ~0u, &groups,
      [](void** parts, uint32_t) { run_products(my_warp(), *static_cast<int*>(parts[0])); }, false,
      SIMT_HERE);
}

void wgmma(int n, float* d, const uint32_t* a, uint64_t a_desc, uint64_t b_desc, bool accumulate) {
  struct Part {
    int n;
    float* d;
    const uint32_t* a;
    uint64_t a_desc, b_desc;
    bool accumulate;
    void* where;
  } part{n, d, a, a_desc, b_desc, accumulate, SIMT_HERE};
  meet(
      "wgmma", ~0u, &part,
      [](void** parts, uint32_t) {
        Warp& w = my_warp();
        const Part& first = *static_cast<Part*>(parts[0]);
        if (state.blocks[w.block].live % 128 && w.number / 4 * 128 + 128 > static_cast<int>(blockDim.x))
          fail(first.where, nullptr, "wgmma: the block has no whole warpgroup here");
        if (!w.fenced) fail(first.where, nullptr, "wgmma without a wgmma_fence since the last commit");
        Product p{};
        p.n = first.n;
        p.group = w.group;
        p.accumulate = first.accumulate;
        p.registers = first.a != nullptr;
        p.a_desc = first.a_desc;
        p.b_desc = first.b_desc;
        for (int l = 0; l < kLanes; ++l) {
          const Part& part = *static_cast<Part*>(parts[l]);
          if (part.b_desc != p.b_desc || part.a_desc != p.a_desc || part.accumulate != p.accumulate)
            fail(first.where, nullptr, "wgmma: descriptors or predicates differ between the lanes of a warp");
          p.d[l] = part.d;
          if (part.a) memcpy(p.a[l], part.a, 16);
        }
        Clock clock;
        p.agent = state.agents + state.current;
        p.clock = start_async(&clock);
        check_rows(p.b_desc, 0, p.n, p.agent, clock, first.where);
        if (!p.registers) check_rows(p.a_desc, w.number % 4 * 16, 16, p.agent, clock, first.where);
        w.sequence = (w.sequence ^ p.b_desc ^ p.a_desc << 7 ^ static_cast<uint64_t>(p.n)) * 0x100000001b3ull;
        w.products.push_back(p);
        hold(w, p);
      },
      false, SIMT_HERE);
}

void check_cluster_end() {
  if (!state.bulks.empty()) fail(nullptr, nullptr, "the block ended with bulk copies under way");
  const size_t per_block = state.warps.size() / state.blocks.size();
  for (const Warp& w : state.warps) {
    if (!w.products.empty()) fail(nullptr, nullptr, "warp %d ended with a wgmma under way", w.number);
    const size_t leader = static_cast<size_t>(w.block) * per_block + static_cast<size_t>(w.number) / 4 * 4;
    if (state.warps[leader].sequence != w.sequence)
      fail(nullptr, nullptr, "the warps of warpgroup %d issued different wgmmas", w.number / 4);
    if (state.warps[leader].registers != w.registers)
      fail(nullptr, nullptr, "the warps of warpgroup %d set different register counts", w.number / 4);
  }
  // A block may only take what it was started with: whole eights of registers for each of its threads.
  const int threads = static_cast<int>(per_block) * kLanes;
  const int pool = std::min(65536 / threads / 8 * 8, 256) * threads;
  for (size_t b = 0; b < state.blocks.size(); ++b) {
    int registers = 0;
    for (size_t w = 0; w < per_block; ++w) registers += kLanes * state.warps[b * per_block + w].registers;
    if (registers > pool)
      fail(nullptr, nullptr, "setmaxnreg: %d registers of the %d that the block was started with", registers,
           pool);
  }
}

}  // namespace simt
