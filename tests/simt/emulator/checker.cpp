// Races, bounds and reads of what nobody wrote, access by access. Kernels compiled with -fsanitize=thread
// call the hooks at the end of this file (libtsan is not linked); asynchronous operations report themselves.
//
// Happens-before by vector clocks: barriers, mbarriers and their waits join them; a race is two accesses of
// which one writes, neither is ordered after the other, and not both are atomic. Clusters of one launch are
// never ordered.
#include <algorithm>

#include "state.h"

namespace simt {

namespace {

struct Place {
  Cell* cells = nullptr;
  size_t count = 0;
  bool shared = false;
  const char* name = "";
  Buffer* buffer = nullptr;
  size_t offset = 0;
};

[[noreturn]] void outside(const Place& place, size_t bytes, ptrdiff_t offset, size_t size, void* where) {
  fail(where, nullptr, "access of %zu bytes at byte %td of %s, which has %zu", bytes, offset, place.name,
       size);
}

bool find_shared(const Block& block, const void* p, size_t bytes, Place& place, void* where) {
  constexpr size_t kWindowMost = 320 << 10;
  if (!block.window || !within(p, block.window, kWindowMost)) return false;
  const auto* at = static_cast<const unsigned char*>(p);
  place.shared = true;
  place.offset = static_cast<size_t>(at - block.window);
  auto inside = [&](const Region& array) {
    if (!within(p, block.window + array.offset, array.bytes)) return false;
    place.name = array.name;
    const size_t offset = place.offset - array.offset;
    if (offset + bytes > array.bytes)
      outside(place, bytes, static_cast<ptrdiff_t>(offset), array.bytes, where);
    return true;
  };
  bool found = std::any_of(state.statics.begin(), state.statics.end(), inside);
  if (!found && within(p, block.dynamic, state.shared)) {
    found = std::any_of(block.declared.begin(), block.declared.end(), inside);
    if (!found) {
      place.name = "dynamic shared memory";
      if (!block.declared.empty())
        fail(where, nullptr, "access of %zu bytes at byte %td of dynamic shared memory, between its arrays",
             bytes, at - block.dynamic);
      if (!within(at + bytes - 1, block.dynamic, state.shared))
        outside(place, bytes, at - block.dynamic, state.shared, where);
      found = true;
    }
  }
  if (!found)
    fail(where, nullptr,
         "access of %zu bytes to shared memory outside of every array (byte %td of the dynamic part, of %zu)",
         bytes, at - block.dynamic, state.shared);
  place.cells = block.cells;
  return true;
}

bool find(const void* p, size_t bytes, Place& place, Access access, void* where) {
  bool found = false;
  for (const Block& block : state.blocks) {
    if (!find_shared(block, p, bytes, place, where)) continue;
    found = true;
    break;
  }
  if (!found) {
    Buffer* buffer = find_buffer(p);
    if (!buffer) {
      const Fibre& f = me();
      if (access != Access::read && !within(p, f.stack, kStack))
        fail(where, nullptr, "write of %zu bytes to %p, which is neither a buffer nor the thread's own",
             bytes, p);
      return false;
    }
    place.buffer = buffer;
    place.name = buffer->name.c_str();
    const ptrdiff_t offset = static_cast<const unsigned char*>(p) - buffer->bytes;
    if (offset < 0 || static_cast<size_t>(offset) + bytes > buffer->size)
      outside(place, bytes, offset, buffer->size, where);
    if (buffer->use == Use::input) {
      if (access != Access::read) fail(where, nullptr, "write to the input %s", place.name);
      return false;  // nobody writes it: nothing else to check
    }
    if (buffer->cells.empty()) {
      buffer->cells.resize((buffer->size + kCell - 1) / kCell);
      buffer->written.assign(buffer->cells.size(), buffer->use == Use::update);
    }
    place.offset = static_cast<size_t>(offset);
    place.cells = buffer->cells.data();
  }
  place.count = (place.offset % kCell + bytes + kCell - 1) / kCell;
  place.cells += place.offset / kCell;
  return true;
}

struct Visit {
  const Place& place;
  int agent;
  const Clock& clock;
  Access access;
  bool proxy;
  void* where;
};

const char* verb(Access access) {
  return access == Access::read ? "read" : access == Access::write ? "write" : "atomic";
}

void visit(const Visit& v, Cell& c, size_t index) {
  const uint32_t unit = v.place.shared ? state.unit : state.launch;
  if (c.unit != unit) {
    c.unit = unit;
    c.writer = -1;
    c.many = false;
    c.readers.clear();
  }
  auto unordered = [&](int agent, uint32_t clock, uint32_t by_unit) {
    return by_unit != state.unit || (agent != v.agent && clock > v.clock[agent]);
  };
  if (c.writer >= 0 && !(v.access == Access::atomic && c.atomic) &&
      unordered(c.writer, c.write_clock, c.write_unit)) {
    const std::string other = c.write_unit == state.unit ? who(c.writer) : "another block";
    fail(v.where, c.written_at, "race in %s: %s by %s, not ordered after the write by %s", v.place.name,
         verb(v.access), who(v.agent).c_str(), other.c_str());
  }
  if (v.proxy && v.place.shared && c.writer >= 0 && c.writer < state.agents &&
      state.fibres[c.writer].proxy_fence < c.write_clock)
    fail(v.where, c.written_at, "%s: %s without fence_proxy_async after the write by %s", v.place.name,
         who(v.agent).c_str(), who(c.writer).c_str());
  if (v.access != Access::write) {
    const bool written = v.place.shared ? c.writer >= 0 : bool(v.place.buffer->written[index]);
    if (!written) fail(v.where, nullptr, "%s of %s where nobody has written", verb(v.access), v.place.name);
  }
  if (v.access == Access::read) {
    if (!c.readers.empty() && c.read_unit != state.unit) {
      c.many = true;
      c.readers.clear();
    }
    c.read_unit = state.unit;
    for (Reader& r : c.readers) {
      if (r.agent != v.agent && r.clock > v.clock[r.agent]) continue;
      r = {v.agent, v.clock[v.agent], v.where};
      return;
    }
    c.readers.push_back({v.agent, v.clock[v.agent], v.where});
    return;
  }
  for (const Reader& r : c.readers) {
    if (v.proxy && v.place.shared && r.agent < state.agents && c.read_unit == state.unit &&
        state.fibres[r.agent].proxy_fence < r.clock)
      fail(v.where, r.where, "%s: %s by %s without fence_proxy_async after the read by %s", v.place.name,
           verb(v.access), who(v.agent).c_str(), who(r.agent).c_str());
    if (unordered(r.agent, r.clock, c.read_unit)) {
      const std::string other = c.read_unit == state.unit ? who(r.agent) : "another block";
      fail(v.where, r.where, "race in %s: %s by %s, not ordered after the read by %s", v.place.name,
           verb(v.access), who(v.agent).c_str(), other.c_str());
    }
  }
  if (c.many)
    fail(v.where, nullptr, "race in %s: %s of what other blocks read", v.place.name, verb(v.access));
  c.readers.clear();
  c.writer = v.agent;
  c.write_clock = v.clock[v.agent];
  c.write_unit = state.unit;
  c.atomic = v.access == Access::atomic;
  c.written_at = v.where;
  if (!v.place.shared) v.place.buffer->written[index] = true;
}

void check_cells(const void* p, size_t bytes, Access access, int agent, const Clock& clock, bool proxy,
                 void* where) {
  Place place;
  ++state.stats.checked;
  if (!bytes || !find(p, bytes, place, access, where)) return;
  const Visit v{place, agent, clock, access, proxy, where};
  const size_t first = place.offset / kCell;
  for (size_t i = 0; i < place.count; ++i) visit(v, place.cells[i], first + i);
}

}  // namespace

Cell* make_cells(size_t count) {
  return new Cell[count];
}

void check(const void* p, size_t bytes, Access access, void* where) {
  if (race_mode) check_cells(p, bytes, access, state.current, me().clock, false, where);
}

void check_async(const void* p, size_t bytes, Access access, int agent, const Clock& clock, bool proxy,
                 void* where) {
  if (race_mode) check_cells(p, bytes, access, agent, clock, proxy, where);
}

void check_written_by(const void* p, void* where) {
  if (!race_mode) return;
  Place place;
  if (!find(p, 8, place, Access::read, where)) return;
  const Cell& c = *place.cells;
  if (c.unit != state.unit || c.writer < 0) fail(where, nullptr, "mbarrier: nobody has initialised it");
  if (c.writer != state.current && c.write_clock > me().clock[c.writer])
    fail(where, c.written_at, "mbarrier: used without a barrier after its initialisation");
}

void join(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

void tick(Fibre& fibre) {
  if (race_mode) ++fibre.clock[fibre.id];
}

uint32_t start_async(Clock* clock) {
  Fibre& f = me();
  const uint32_t now = ++state.issued[f.id];
  if (race_mode) {
    *clock = f.clock;
    (*clock)[state.agents + f.id] = now;
    tick(f);
  }
  return now;
}

void finish_async(Fibre& fibre, int agent, uint32_t clock) {
  if (race_mode) fibre.clock[agent] = std::max(fibre.clock[agent], clock);
}

namespace {
void hook(const void* p, size_t bytes, Access access, bool aligned, void* where) {
  if (!in_kernel) return;
  if (aligned && reinterpret_cast<uintptr_t>(p) % bytes)
    fail(where, nullptr, "misaligned: %zu bytes at %p", bytes, p);
  check(p, bytes, access, where);
}
}  // namespace

}  // namespace simt

#define SIMT_HOOKS(bytes)                                        \
  extern "C" void __tsan_read##bytes(void* p) {                  \
    simt::hook(p, bytes, simt::Access::read, true, SIMT_HERE);   \
  }                                                              \
  extern "C" void __tsan_write##bytes(void* p) {                 \
    simt::hook(p, bytes, simt::Access::write, true, SIMT_HERE);  \
  }                                                              \
  extern "C" void __tsan_unaligned_read##bytes(void* p) {        \
    simt::hook(p, bytes, simt::Access::read, false, SIMT_HERE);  \
  }                                                              \
  extern "C" void __tsan_unaligned_write##bytes(void* p) {       \
    simt::hook(p, bytes, simt::Access::write, false, SIMT_HERE); \
  }
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4) SIMT_HOOKS(8) SIMT_HOOKS(16) extern "C" void __tsan_read_range(void* p, size_t bytes) {
  simt::hook(p, bytes, simt::Access::read, false, SIMT_HERE);
}
extern "C" void __tsan_write_range(void* p, size_t bytes) {
  simt::hook(p, bytes, simt::Access::write, false, SIMT_HERE);
}
extern "C" void __tsan_init() {
  simt::race_mode = true;
}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void*, void*) {}
extern "C" void __tsan_vptr_read(void*) {}
