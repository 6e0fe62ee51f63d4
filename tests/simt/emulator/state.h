// What the parts of the runner share: the cluster that is running, its memory, and the checks.
//
//   scheduler.cpp  which thread goes on; barriers       ptx.cpp     warp instructions and cp.async
//   checker.cpp    races, bounds, first writes          hopper.cpp  mbarriers, bulk copies, wgmma, clusters
//   memory.cpp     shared and global memory             report.cpp  how a fault is reported
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda.h"
#include "fibre.h"
#include "ptx.h"

#define SIMT_HERE __builtin_return_address(0)

namespace simt {

constexpr int kLanes = 32;
constexpr int kMostThreads = 1024;
constexpr int kMostBlocks = 8;  // of a cluster
constexpr size_t kSharedMost = 227 << 10;
constexpr size_t kStaticMost = 27 << 10;  // CUDA allows 48 KB; the window of 18-bit addresses leaves this
constexpr size_t kStack = 256 << 10;
constexpr unsigned char kPoison = 0xff;  // a NaN in every float format

// A vector clock. Index i < agents is thread i; agents + i are the asynchronous operations thread i issued.
using Clock = std::vector<uint32_t>;

struct Copy {
  unsigned char* target;
  const void* source;  // null: zeros
  uint32_t bytes;
  bool done;
  int group;
  uint32_t clock;
};

struct Fibre {
  Context context;
  char* stack = nullptr;
  int id = 0;      // its place among all threads of the cluster; each block begins at a multiple of 32
  int block = 0;   // rank of its block in the cluster
  int thread = 0;  // its number in the block
  uint3 index{};
  bool done = true;
  const char* waiting = nullptr;  // what for
  void* where = nullptr;
  std::vector<Copy> copies;
  int copy_group = 0;
  uint32_t proxy_fence = 0;  // own clock at the last fence.proxy.async
  bool at_cluster = false;   // arrived at the cluster's barrier and has not waited yet
  uint32_t cluster_phase = 0;
  Clock clock;
};

// Lanes that have reached one instruction of the whole warp.
using Combine = void (*)(void** args, uint32_t mask);
struct Meeting {
  const char* what;
  uint32_t mask, arrived;
  void* args[kLanes];
  void* where;
};

struct Product {  // a wgmma under way, one warp's 16 rows
  int n, group, agent;
  bool accumulate, registers;
  float* d[kLanes];
  uint32_t a[kLanes][4];
  uint64_t a_desc, b_desc;
  uint32_t clock;
};

struct Warp {
  uint32_t runnable = 0, live = 0;
  uint64_t priority = 0;
  int block = 0, number = 0;
  std::vector<Meeting> meetings;
  std::vector<Product> products;
  std::vector<std::pair<float*, std::vector<float>>> held;  // accumulators under way, per lane's pointer
  int group = 0, registers = 0;
  bool fenced = false;
  uint64_t sequence = 0;  // hash of the wgmmas issued
};

struct Barrier {
  int arrived = 0, expected = 0, line = 0;
  void* where = nullptr;
  std::vector<int> waiters;
  Clock clock;
};

struct MBarrier {
  uint32_t count, pending;
  int64_t bytes = 0;
  uint32_t phase = 0;
  int block = 0, initialiser = 0;
  bool fenced = false;
  std::vector<int> waiters;
  Clock arriving, done;
};

struct Bulk {
  unsigned char* target;
  const void* source;
  uint32_t bytes;
  int barrier, block;
  Clock clock;
};

// What the checker knows of kCell bytes of memory.
constexpr size_t kCell = 2;
struct Reader {
  int agent;
  uint32_t clock;
  void* where;
};
struct Cell {
  uint32_t unit = 0;  // shared memory: the cluster, global memory: the launch, that the rest is about
  int writer = -1;    // the last one
  uint32_t write_clock = 0, write_unit = 0;
  bool atomic = false;  // it wrote atomically
  bool many = false;    // threads of more than one cluster have read it
  uint32_t read_unit = 0;
  void* written_at = nullptr;
  std::vector<Reader> readers;  // of one cluster, since the last write
};
struct Region {  // an array in shared memory; static ones have a key
  const void* key;
  const char* name;
  size_t offset, bytes;
};

struct Block {
  uint3 index{};
  int live = 0;
  unsigned char* window = nullptr;  // static arrays, then (at `dynamic`) the dynamic part
  unsigned char* dynamic = nullptr;
  std::vector<Region> declared;
  Barrier barriers[16];
  Cell* cells = nullptr;
};

struct Stats {
  uint64_t switches, launches, mma, ldmatrix, bank_conflicts, wgmma, copies, checked;
};

struct State {
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  std::vector<Block> blocks;  // of the running cluster
  std::vector<MBarrier> mbarriers;
  std::vector<Bulk> bulks;
  std::vector<uint32_t> issued;  // per thread: asynchronous operations so far
  std::vector<Region> statics;   // of the running launch
  size_t static_used = 0, shared = 0;
  Barrier cluster;
  uint32_t cluster_phase = 0;
  Clock cluster_done;  // what the threads of the last whole phase had done
  Context main;
  const std::function<void()>* body = nullptr;
  const char* kernel = "";
  int current = -1, live = 0, agents = 0;
  uint32_t launch = 0, unit = 0;  // serials of launches and of clusters
  uint64_t seed = 0, random = 0, change_mask = 0, copy_mask = 0;
  Stats stats{};
};
extern State state;
// Outside of State, because hooks are called before constructors have run.
extern bool race_mode;  // the kernels were compiled with the checker's hooks
extern bool in_kernel;

inline Fibre& me() {
  return state.fibres[state.current];
}
inline Warp& my_warp() {
  return state.warps[state.current / kLanes];
}
inline Block& my_block() {
  return state.blocks[me().block];
}

// scheduler.cpp
uint64_t random_bits();
void block_me(const char* what, void* where);
void wake(int id);
void reschedule();
// Meets the other lanes of `mask`; the last one runs combine for all. `orders`: it is a memory barrier too.
void meet(const char* what, uint32_t mask, void* args, Combine combine, bool orders, void* where);
// Arrives at a barrier; wakes everybody and starts it anew where that makes `expected`.
void arrive(Barrier& barrier, int expected, bool wait, const char* what, void* where);

// memory.cpp
bool within(const void* p, const void* from, size_t bytes);
void prepare_block(Block& block, int rank);
void check_block(const Block& block);
void start_statics();
// The bytes behind a shared-memory address; `block` is the one that a plain address means.
unsigned char* shared_bytes(uint32_t address, size_t bytes, size_t align, const char* what, void* where);
int shared_block(uint32_t address);  // rank of the block it lies in

enum class Use { input, output, update };  // what a launch does with a buffer
struct Buffer {
  unsigned char* bytes;
  size_t size;
  std::string name;
  Use use;
  unsigned char* map;
  size_t map_size;
  std::vector<Cell> cells;
  std::vector<bool> written;
};
Buffer* find_buffer(const void* p);
Buffer* add_buffer(size_t bytes, const char* name, Use use);
void protect_inputs();
void free_buffers();
std::string buffer_near(const void* p);

// checker.cpp
enum class Access { read, write, atomic };
void check(const void* p, size_t bytes, Access access, void* where);
// The same by an asynchronous operation (agent, its clock); `proxy`: through the asynchronous proxy.
void check_async(const void* p, size_t bytes, Access access, int agent, const Clock& clock, bool proxy,
                 void* where);
void join(Clock& into, const Clock& from);
void tick(Fibre& fibre);
// A new asynchronous operation of the running thread, which starts after all that the thread has done.
uint32_t start_async(Clock* clock);
void finish_async(Fibre& fibre, int agent, uint32_t clock);
void check_written_by(const void* p, void* where);  // an mbarrier's words were initialised before now
Cell* make_cells(size_t count);

// ptx.cpp, hopper.cpp
void finish_copies(Fibre& fibre);
void run_bulk(size_t i);
void check_cluster_end();
float half_at(uint32_t bits, int i);

// report.cpp
[[noreturn]] void fail(void* where, void* other, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
[[noreturn]] void fail_deadlock();
std::string who(int agent);
void catch_signals(int report, unsigned seconds);

}  // namespace simt
