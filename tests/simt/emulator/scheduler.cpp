// Which thread goes on next, barriers, and the life of a thread.
//
// A seed fixes the whole schedule. Seed 0 runs threads in ascending order and asynchronous work as late as
// its waits allow, seed 1 in descending order and as early as can be. Every other seed gives warps random
// priorities that change at random points, so that one warp may run far ahead of the others (uniformly random
// choices would keep them near lockstep), takes lanes at random, and starts at a random block.
#include <sys/mman.h>

#include <cstring>

#include "state.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

State state;
bool race_mode = false, in_kernel = false;

namespace {

std::vector<char*> stacks;

// Bulk copies are nobody's: the scheduler runs them between threads, or when nothing else can go on.
bool run_some_bulk(bool any) {
  if (state.bulks.empty()) return false;
  const bool now = !any || state.seed == 1 || (state.seed > 1 && (random_bits() & state.copy_mask) == 0);
  if (now) run_bulk(random_bits() % state.bulks.size());
  return now;
}

int pick() {
  const int warps = static_cast<int>(state.warps.size());
  auto any = [] {
    for (const Warp& w : state.warps)
      if (w.runnable) return true;
    return false;
  };
  bool runnable = any();
  while (run_some_bulk(runnable)) runnable = any();
  if (!runnable) return -1;
  int best = -1;
  if (state.seed > 1 && (random_bits() & state.change_mask) == 0)
    state.warps[random_bits() % warps].priority = random_bits();
  for (int i = 0; i < warps; ++i) {
    const int w = state.seed == 1 ? warps - 1 - i : i;
    if (!state.warps[w].runnable) continue;
    if (best < 0 || (state.seed > 1 && state.warps[w].priority > state.warps[best].priority)) best = w;
  }
  const uint32_t lanes = state.warps[best].runnable;
  int lane = state.seed == 1 ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
  if (state.seed > 1) {
    const int by = static_cast<int>(random_bits() & 31);
    const uint32_t turned = by ? lanes >> by | lanes << (32 - by) : lanes;
    lane = (__builtin_ctz(turned) + by) & 31;
  }
  return best * kLanes + lane;
}

void go_to(int next, Context& from) {
  state.current = next;
  in_kernel = next >= 0;
  ++state.stats.switches;
  if (next < 0) return swap(from, state.main);
  Fibre& f = state.fibres[next];
  threadIdx = f.index;
  blockIdx = state.blocks[f.block].index;
  swap(from, f.context);
}

void start_anew(Barrier& barrier) {
  for (const int id : barrier.waiters) {
    Fibre& f = state.fibres[id];
    if (race_mode) join(f.clock, barrier.clock);
    tick(f);
    if (id != state.current) wake(id);
  }
  barrier.waiters.clear();
  barrier.arrived = 0;
  barrier.clock.clear();
}

void end_cluster_phase() {
  for (const int id : state.cluster.waiters) wake(id);
  ++state.cluster_phase;
  state.cluster_done = std::move(state.cluster.clock);
  state.cluster = Barrier{};
}

void thread_end() {
  Fibre& f = me();
  finish_copies(f);
  f.done = true;
  block_me("its end", nullptr);
  my_warp().live &= ~(1u << (f.id % kLanes));
  Block& block = my_block();
  --block.live;
  --state.live;
  Barrier& all = block.barriers[0];  // __syncthreads does not wait for threads that have ended
  if (all.arrived && all.arrived == block.live) start_anew(all);
  if (state.cluster.arrived && state.cluster.arrived == state.live) end_cluster_phase();
  const int next = pick();
  if (next < 0 && state.live) fail_deadlock();
  go_to(next, f.context);
  __builtin_unreachable();
}

void thread_begin() {
  (*state.body)();
  thread_end();
}

void prepare_thread(int rank, int number, const dim3& shape, int warps) {
  const int id = rank * warps * kLanes + number;
  if (static_cast<int>(stacks.size()) <= id) stacks.resize(id + 1);
  if (!stacks[id]) {
    constexpr size_t kPage = 4096;
    void* map = mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
      fail(nullptr, nullptr, "the runner found no memory for the stack of thread %d", id);
    mprotect(map, kPage, PROT_NONE);
    stacks[id] = static_cast<char*>(map) + kPage;
  }
  const unsigned n = static_cast<unsigned>(number);
  Fibre& f = state.fibres[id];
  f = Fibre{};
  f.stack = stacks[id];
  f.id = id;
  f.block = rank;
  f.thread = number;
  f.done = false;
  f.index = {n % shape.x, n / shape.x % shape.y, n / (shape.x * shape.y)};
  if (race_mode) {
    f.clock.assign(2 * state.agents, 0);
    f.clock[id] = 1;
  }
  prepare(f.context, f.stack, kStack, thread_begin);
  Warp& warp = state.warps[id / kLanes];
  warp.runnable |= 1u << (id % kLanes);
  warp.live = warp.runnable;
}

void run_cluster(const Launch& shape, int threads, int first) {
  const int warps = (threads + kLanes - 1) / kLanes, blocks = static_cast<int>(shape.cluster);
  ++state.unit;
  state.agents = blocks * warps * kLanes;
  state.live = blocks * threads;
  state.fibres = std::vector<Fibre>(state.agents);
  state.warps = std::vector<Warp>(blocks * warps);
  state.blocks = std::vector<Block>(blocks);
  state.issued.assign(state.agents, 0);
  state.mbarriers.clear();
  state.bulks.clear();
  state.cluster = Barrier{};
  state.cluster_phase = 0;
  for (int rank = 0; rank < blocks; ++rank) {
    Block& block = state.blocks[rank];
    const unsigned b = static_cast<unsigned>(first + rank);
    block.index = {b % shape.grid.x, b / shape.grid.x % shape.grid.y, b / (shape.grid.x * shape.grid.y)};
    block.live = threads;
    prepare_block(block, rank);
    for (int w = 0; w < warps; ++w) {
      Warp& warp = state.warps[rank * warps + w];
      warp.block = rank;
      warp.number = w;
      warp.priority = random_bits();
    }
    for (int t = 0; t < threads; ++t) prepare_thread(rank, t, shape.block, warps);
  }
  go_to(pick(), state.main);
  for (const Block& block : state.blocks) check_block(block);
  check_cluster_end();
}

}  // namespace

uint64_t random_bits() {
  state.random ^= state.random << 13;
  state.random ^= state.random >> 7;
  state.random ^= state.random << 17;
  return state.random * 0x2545F4914F6CDD1Dull >> 11;
}

void block_me(const char* what, void* where) {
  Fibre& f = me();
  f.waiting = what;
  f.where = where;
  my_warp().runnable &= ~(1u << (f.id % kLanes));
}

void wake(int id) {
  state.fibres[id].waiting = nullptr;
  state.warps[id / kLanes].runnable |= 1u << (id % kLanes);
}

void reschedule() {
  Fibre& f = me();
  const int next = pick();
  if (next < 0) fail_deadlock();
  if (next != f.id) go_to(next, f.context);
}

void launch(const char* name, const Launch& shape, const std::function<void()>& body) {
  state.kernel = name;
  state.current = -1;
  const size_t threads = size_t{shape.block.x} * shape.block.y * shape.block.z;
  const size_t blocks = size_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  if (threads < 1 || threads > kMostThreads) fail(nullptr, nullptr, "launch of %zu threads a block", threads);
  if (blocks < 1 || blocks > 0x7fffffff) fail(nullptr, nullptr, "launch of %zu blocks", blocks);
  if (shape.shared > kSharedMost)
    fail(nullptr, nullptr, "launch with %zu bytes of shared memory", shape.shared);
  if (shape.cluster < 1 || shape.cluster > kMostBlocks || shape.grid.x % shape.cluster)
    fail(nullptr, nullptr, "launch of %u blocks in clusters of %u", shape.grid.x, shape.cluster);
  state.random = (state.seed + 1) * 0x9E3779B97F4A7C15ull;
  for (int i = 0; i < 8; ++i) random_bits();
  state.change_mask =
      (uint64_t{1} << (random_bits() % 4 * 4)) - 1;  // changes about every 1, 16, 256, 4096 picks
  state.copy_mask = (uint64_t{1} << (2 + random_bits() % 3 * 4)) - 1;
  ++state.launch;
  ++state.stats.launches;
  state.body = &body;
  state.shared = shape.shared;
  gridDim = shape.grid;
  blockDim = shape.block;
  start_statics();
  const size_t clusters = blocks / shape.cluster;
  const size_t start = state.seed > 1 ? random_bits() % clusters : 0;
  for (size_t i = 0; i < clusters; ++i) {
    const size_t c = state.seed == 1 ? clusters - 1 - i : (i + start) % clusters;
    run_cluster(shape, static_cast<int>(threads), static_cast<int>(c * shape.cluster));
  }
  state.current = -1;
}

// --- Barriers
// -----------------------------------------------------------------------------------------------

void arrive(Barrier& barrier, int expected, bool wait, const char* what, void* where) {
  Fibre& f = me();
  if (barrier.arrived && barrier.expected != expected)
    fail(where, barrier.where, "%s: %d threads expected here, %d there", what, expected, barrier.expected);
  barrier.expected = expected;
  barrier.where = where;
  ++barrier.arrived;
  if (race_mode) join(barrier.clock, f.clock);
  if (wait)
    barrier.waiters.push_back(f.id);
  else
    tick(f);
  if (barrier.arrived == expected)
    start_anew(barrier);
  else if (wait)
    block_me(what, where);
  reschedule();
}

void block_barrier(int line) {
  Block& block = my_block();
  Barrier& barrier = block.barriers[0];
  // Lines, not code addresses: g++ may duplicate a call.
  if (barrier.arrived && barrier.line != line)
    fail(SIMT_HERE, barrier.where, "__syncthreads: threads of one block meet at different lines");
  barrier.line = line;
  barrier.expected = block.live;  // may have shrunk since the first one came
  arrive(barrier, block.live, true, "__syncthreads", SIMT_HERE);
}

void named_barrier(int id, int threads, bool wait) {
  if (id < 1 || id > 15) fail(SIMT_HERE, nullptr, "named barrier %d: expected 1 ... 15", id);
  if (threads < kLanes || threads % kLanes) fail(SIMT_HERE, nullptr, "named barrier of %d threads", threads);
  arrive(my_block().barriers[id], threads, wait, wait ? "a named barrier" : "arriving at a named barrier",
         SIMT_HERE);
}

void cluster_arrive() {
  Fibre& f = me();
  if (f.at_cluster) fail(SIMT_HERE, nullptr, "cluster_arrive twice without cluster_wait");
  f.at_cluster = true;
  f.cluster_phase = state.cluster_phase;
  if (race_mode) join(state.cluster.clock, f.clock);
  tick(f);
  if (++state.cluster.arrived == state.live) end_cluster_phase();
  reschedule();
}

void cluster_wait() {
  Fibre& f = me();
  if (!f.at_cluster) fail(SIMT_HERE, nullptr, "cluster_wait without cluster_arrive");
  if (f.cluster_phase == state.cluster_phase) {
    state.cluster.waiters.push_back(f.id);
    block_me("cluster_wait", SIMT_HERE);
  }
  reschedule();
  // Nobody can end the next phase before this thread arrives again.
  if (race_mode) join(f.clock, state.cluster_done);
  f.at_cluster = false;
}

uint32_t cluster_rank() {
  return static_cast<uint32_t>(me().block);
}

}  // namespace simt
