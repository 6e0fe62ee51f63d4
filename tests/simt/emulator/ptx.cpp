// Warp instructions: shuffles, votes, matrices, and each thread's asynchronous copies; atomics.
#include "state.h"

#include <cstring>

namespace simt {

void meet(const char* what, uint32_t mask, void* args, Combine combine, bool orders, void* where) {
  Fibre& f = me();
  Warp& w = my_warp();
  const int lane = f.id % kLanes;
  const uint32_t bit = 1u << lane;
  if (!(mask & bit)) fail(where, nullptr, "%s: the calling lane is not in the mask %08x", what, mask);
  if (mask & ~w.live)
    fail(where, nullptr, "%s: the mask %08x names lanes that have ended or never were (there are %08x)", what,
         mask, w.live);
  size_t i = 0;
  while (i < w.meetings.size() && !(w.meetings[i].mask & mask)) ++i;
  if (i == w.meetings.size()) w.meetings.push_back({what, mask, 0, {}, where});
  Meeting& m = w.meetings[i];
  if (strcmp(m.what, what) != 0 || m.mask != mask)
    fail(where, m.where, "lanes of one warp part: %s (mask %08x) here, %s (mask %08x) there", what, mask,
         m.what, m.mask);
  m.arrived |= bit;
  m.args[lane] = args;
  if (m.arrived != mask) {
    block_me(what, where);
    return reschedule();
  }
  const Meeting all = m;
  w.meetings.erase(w.meetings.begin() + static_cast<ptrdiff_t>(i));
  if (combine) combine(const_cast<void**>(all.args), mask);
  Clock clock;
  const int first = f.id - lane;
  for (int l = 0; l < kLanes; ++l)
    if (orders && race_mode && mask >> l & 1) join(clock, state.fibres[first + l].clock);
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    Fibre& other = state.fibres[first + l];
    if (orders && race_mode) {
      join(other.clock, clock);
      tick(other);
    }
    if (l != lane) wake(other.id);
  }
  reschedule();
}

void warp_barrier(unsigned mask) {
  // The default mask means the lanes that are still there, as hardware takes it.
  meet("__syncwarp", mask == ~0u ? my_warp().live : mask, nullptr, nullptr, true, SIMT_HERE);
}

unsigned active_lanes() {
  return my_warp().live;
}

// Neither shuffles nor votes order memory, as PTX says.
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width) {
  if (width < 1 || width > kLanes || (width & (width - 1)))
    fail(SIMT_HERE, nullptr, "shuffle of width %d", width);
  const int lane = state.current % kLanes, begin = lane & ~(width - 1), end = begin + width;
  int source = lane;
  if (kind == Shuffle::index) source = begin + (operand & (width - 1));
  if (kind == Shuffle::up) source = lane - operand >= begin ? lane - operand : lane;
  if (kind == Shuffle::down) source = lane + operand < end ? lane + operand : lane;
  if (kind == Shuffle::exclusive_or) source = (lane ^ operand) < end ? lane ^ operand : lane;
  struct Part {
    uint64_t given, taken;
    int source;
    void* where;
  } part{value, 0, source, SIMT_HERE};
  meet(
      "shuffle", mask, &part,
      [](void** parts, uint32_t lanes) {
        for (int l = 0; l < kLanes; ++l) {
          if (!(lanes >> l & 1)) continue;
          Part* p = static_cast<Part*>(parts[l]);
          if (!(lanes >> p->source & 1))
            fail(p->where, nullptr, "shuffle: lane %d reads lane %d, which is not in the mask", l, p->source);
          p->taken = static_cast<Part*>(parts[p->source])->given;
        }
      },
      false, SIMT_HERE);
  return part.taken;
}

unsigned ballot(unsigned mask, bool predicate) {
  struct Part {
    bool given;
    unsigned taken;
  } part{predicate, 0};
  meet(
      "vote", mask, &part,
      [](void** parts, uint32_t lanes) {
        unsigned votes = 0;
        for (int l = 0; l < kLanes; ++l)
          if ((lanes >> l & 1) && static_cast<Part*>(parts[l])->given) votes |= 1u << l;
        for (int l = 0; l < kLanes; ++l)
          if (lanes >> l & 1) static_cast<Part*>(parts[l])->taken = votes;
      },
      false, SIMT_HERE);
  return part.taken;
}

// --- Matrices
// -----------------------------------------------------------------------------------------------

float half_at(uint32_t bits, int i) {
  return from_half(static_cast<uint16_t>(bits >> (16 * i)));
}

void ldmatrix(uint32_t* r, uint32_t row, int matrices, bool transposed) {
  struct Part {
    uint32_t* r;
    const unsigned char* row;
    int matrices;
    bool transposed;
  } part{r, nullptr, matrices, transposed};
  if (state.current % kLanes < 8 * matrices) {  // the other lanes' addresses are ignored
    part.row = shared_bytes(row, 16, 16, "ldmatrix", SIMT_HERE);
    check(part.row, 16, Access::read, SIMT_HERE);
  }
  meet(
      "ldmatrix", ~0u, &part,
      [](void** parts, uint32_t) {
        const Part& first = *static_cast<Part*>(parts[0]);
        for (int m = 0; m < first.matrices; ++m) {
          unsigned banks = 0;
          uint16_t rows[8][8];
          for (int i = 0; i < 8; ++i) {
            const unsigned char* from = static_cast<Part*>(parts[8 * m + i])->row;
            banks |= 1u << (reinterpret_cast<uintptr_t>(from) / 16 % 8);
            memcpy(rows[i], from, 16);
          }
          state.stats.bank_conflicts += static_cast<uint64_t>(8 - __builtin_popcount(banks));
          for (int l = 0; l < kLanes; ++l) {
            const int i = l / 4, j = 2 * (l % 4);
            const uint16_t low = first.transposed ? rows[j][i] : rows[i][j];
            const uint16_t high = first.transposed ? rows[j + 1][i] : rows[i][j + 1];
            static_cast<Part*>(parts[l])->r[m] = low | static_cast<uint32_t>(high) << 16;
          }
        }
        ++state.stats.ldmatrix;
      },
      false, SIMT_HERE);
}

void mma_m16n8k16(float* d, const uint32_t* a, uint32_t b0, uint32_t b1) {
  struct Part {
    float* d;
    const uint32_t* a;
    uint32_t b[2];
  } part{d, a, {b0, b1}};
  meet(
      "mma_m16n8k16", ~0u, &part,
      [](void** parts, uint32_t) {
        float a[16][16], b[16][8], d[16][8] = {};
        for (int l = 0; l < kLanes; ++l) {
          const Part& p = *static_cast<Part*>(parts[l]);
          const int g = l / 4, t = 2 * (l % 4);
          for (int i = 0; i < 2; ++i) {
            for (int r = 0; r < 4; ++r) a[g + 8 * (r % 2)][t + 8 * (r / 2) + i] = half_at(p.a[r], i);
            for (int r = 0; r < 2; ++r) b[t + 8 * r + i][g] = half_at(p.b[r], i);
          }
        }
        for (int row = 0; row < 16; ++row)
          for (int k = 0; k < 16; ++k)
            for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
        for (int l = 0; l < kLanes; ++l)
          for (int i = 0; i < 4; ++i)
            static_cast<Part*>(parts[l])->d[i] += d[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
        ++state.stats.mma;
      },
      false, SIMT_HERE);
}

// --- cp.async: done when issued or when waited for, at random; until then the target is poison
// --------------

namespace {
void do_copy(Copy& copy) {
  if (copy.source)
    memcpy(copy.target, copy.source, copy.bytes);
  else
    memset(copy.target, 0, copy.bytes);
  copy.done = true;
  ++state.stats.copies;
}
}  // namespace

void cp_async(uint32_t target, const void* source, uint32_t bytes, bool valid) {
  unsigned char* to = shared_bytes(target, bytes, bytes, "cp_async", SIMT_HERE);
  if (valid && reinterpret_cast<uintptr_t>(source) % bytes)
    fail(SIMT_HERE, nullptr, "cp_async: the source is not %u-byte aligned", bytes);
  Fibre& f = me();
  Clock clock;
  Copy copy{to, valid ? source : nullptr, bytes, false, f.copy_group, start_async(&clock)};
  const int agent = state.agents + f.id;
  if (valid) check_async(source, bytes, Access::read, agent, clock, false, SIMT_HERE);
  check_async(to, bytes, Access::write, agent, clock, false, SIMT_HERE);
  if (state.seed == 1 || (state.seed > 1 && (random_bits() & 1)))
    do_copy(copy);
  else
    memset(to, kPoison, bytes);
  f.copies.push_back(copy);
}

void cp_async_commit() {
  ++me().copy_group;
}

void cp_async_wait(int groups) {
  Fibre& f = me();
  size_t kept = 0;
  for (Copy& copy : f.copies) {
    if (copy.group >= f.copy_group - groups) {
      f.copies[kept++] = copy;
      continue;
    }
    if (!copy.done) do_copy(copy);
    finish_async(f, state.agents + f.id, copy.clock);
  }
  f.copies.resize(kept);
}

void finish_copies(Fibre& fibre) {
  for (Copy& copy : fibre.copies)
    if (!copy.done) do_copy(copy);
}

// --- Atomics: the scheduler never stops a thread within one
// -------------------------------------------------

namespace {
template <class T, class Change>
T change(T* p, Change new_value, void* where) {
  if (reinterpret_cast<uintptr_t>(p) % alignof(T))
    fail(where, nullptr, "atomic: misaligned, %zu bytes at %p", sizeof(T), p);
  check(p, sizeof(T), Access::atomic, where);
  const T former = *p;
  *p = new_value(former);
  return former;
}
}  // namespace

#define SIMT_ATOMIC(name, T, expression)                                                             \
  T name(T* p, T value) {                                                                            \
    return change(p, [&]([[maybe_unused]] T old) { return static_cast<T>(expression); }, SIMT_HERE); \
  }
SIMT_ATOMIC(atomic_add, float, old + value)
SIMT_ATOMIC(atomic_add, double, old + value)
SIMT_ATOMIC(atomic_add, int, old + value)
SIMT_ATOMIC(atomic_add, unsigned, old + value)
SIMT_ATOMIC(atomic_add, unsigned long long, old + value)
SIMT_ATOMIC(atomic_add, __half, __hadd(old, value))
SIMT_ATOMIC(atomic_add, __half2, __hadd2(old, value))
SIMT_ATOMIC(atomic_add, float2, (float2{old.x + value.x, old.y + value.y}))
SIMT_ATOMIC(atomic_add, float4, (float4{old.x + value.x, old.y + value.y, old.z + value.z, old.w + value.w}))
SIMT_ATOMIC(atomic_max, int, old < value ? value : old)
SIMT_ATOMIC(atomic_min, int, value < old ? value : old)
SIMT_ATOMIC(atomic_max, unsigned, old < value ? value : old)
SIMT_ATOMIC(atomic_or, unsigned, old | value)
SIMT_ATOMIC(atomic_exchange, int, value)
int atomic_compare(int* p, int expected, int value) {
  return change(p, [&](int old) { return old == expected ? value : old; }, SIMT_HERE);
}

}  // namespace simt
