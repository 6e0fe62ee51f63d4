// Shared memory of the blocks and global memory of the tests. Everything starts poisoned and ends at pages
// that nobody may touch; between static arrays, and between declared dynamic ones, lie bytes that must stay
// as they were.
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "state.h"

namespace simt {

namespace {

// A block's window: its static arrays at kStaticAt, an untouchable page, then dynamic memory up to the last
// page. Addresses: dynamic memory begins at 1024 (the first KiB is the system's), static at kStaticAddress;
// bits 24 and up hold 1 + the rank of the block, of map_shared's addresses and, as on hardware, of a block's
// own ones in a cluster. An address without them, such as a matrix descriptor's, means the block's own
// memory.
constexpr size_t kPage = 4096;
constexpr size_t kStaticAt = kPage;
constexpr size_t kStaticSpace = 28 << 10;
constexpr size_t kDynamicEnd = kStaticAt + kStaticSpace + kPage + (228 << 10);
constexpr size_t kWindow = kDynamicEnd + kPage;
constexpr uint32_t kDynamicAddress = 1024;
constexpr uint32_t kStaticAddress = kDynamicAddress + (228 << 10);
constexpr size_t kRedzone = 64;
constexpr size_t kGuard = 4 << 20;  // on both sides of a buffer

uint32_t own_rank() {
  return state.blocks.size() > 1 ? static_cast<uint32_t>(me().block + 1) << 24 : 0;
}

unsigned char* windows[kMostBlocks];
std::vector<std::unique_ptr<Buffer>> buffers;

unsigned char* reserve(size_t bytes) {
  void* map = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) fail(nullptr, nullptr, "the runner found no memory for %zu bytes", bytes);
  return static_cast<unsigned char*>(map);
}

void expect_poison(const Block& block, const unsigned char* from, const unsigned char* to, const char* what) {
  for (const unsigned char* p = from; p < to; ++p) {
    if (*p != kPoison) {
      state.current = -1;
      fail(nullptr, nullptr, "stray write %s, byte %zu of the window of block %u", what,
           static_cast<size_t>(p - block.window), block.index.x);
    }
  }
}

}  // namespace

bool within(const void* p, const void* from, size_t bytes) {
  return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(from) < bytes;
}

void start_statics() {
  state.statics.clear();
  state.static_used = 0;
}

void prepare_block(Block& block, int rank) {
  unsigned char*& window = windows[rank];
  if (!window) {
    window = reserve(kWindow);
    mprotect(window + kStaticAt, kStaticSpace, PROT_READ | PROT_WRITE);
    mprotect(window + kStaticAt + kStaticSpace + kPage, 228 << 10, PROT_READ | PROT_WRITE);
  }
  static Cell* cells[kMostBlocks];
  if (race_mode && !cells[rank]) cells[rank] = make_cells(kWindow / kCell);
  block.window = window;
  block.cells = cells[rank];
  block.declared.clear();
  unsigned char* end = window + kDynamicEnd;
  block.dynamic =
      reinterpret_cast<unsigned char*>(reinterpret_cast<uintptr_t>(end - state.shared) & ~uintptr_t{1023});
  memset(block.dynamic, kPoison, static_cast<size_t>(end - block.dynamic));
  memset(window + kStaticAt, kPoison, kStaticSpace);
}

void check_block(const Block& block) {
  const unsigned char* at = block.window + kStaticAt;
  for (const Region& array : state.statics) {
    expect_poison(block, at, block.window + array.offset, "before a static shared array");
    at = block.window + array.offset + array.bytes;
  }
  expect_poison(block, at, block.window + kStaticAt + kStaticSpace, "behind the static shared arrays");
  const unsigned char* end = block.dynamic + state.shared;
  at = block.dynamic;
  // Declared in any order: a byte that lies in none of them is a redzone.
  if (!block.declared.empty()) {
    for (; at < end; ++at) {
      bool declared = false;
      for (const Region& array : block.declared)
        if (within(at, block.window + array.offset, array.bytes)) {
          at = block.window + array.offset + array.bytes - 1;
          declared = true;
          break;
        }
      if (!declared) expect_poison(block, at, at + 1, "between arrays of dynamic shared memory");
    }
  }
  expect_poison(block, end, block.window + kDynamicEnd, "behind dynamic shared memory");
}

unsigned char* dynamic_shared() {
  return my_block().dynamic;
}

void* static_shared(const void* key, const char* name, size_t bytes, size_t align) {
  unsigned char* window = my_block().window;
  for (const Region& array : state.statics)
    if (array.key == key) return window + array.offset;
  const size_t offset = (kStaticAt + state.static_used + kRedzone + align - 1) / align * align;
  state.static_used = offset + bytes + kRedzone - kStaticAt;
  if (state.static_used > kStaticMost)
    fail(SIMT_HERE, nullptr, "%s: more than %zu bytes of static shared memory", name, kStaticMost);
  state.statics.push_back({key, name, offset, bytes});
  return window + offset;
}

void declare_shared(const void* array, size_t bytes, const char* name) {
  Block& block = my_block();
  if (!bytes) return;
  if (!within(array, block.dynamic, state.shared) ||
      !within(static_cast<const char*>(array) + bytes - 1, block.dynamic, state.shared))
    fail(SIMT_HERE, nullptr, "%s: %zu bytes do not lie in the %zu bytes of dynamic shared memory", name,
         bytes, state.shared);
  const size_t offset = static_cast<size_t>(static_cast<const unsigned char*>(array) - block.window);
  for (const Region& other : block.declared) {
    if (other.offset == offset && other.bytes == bytes) return;
    if (offset < other.offset + other.bytes && other.offset < offset + bytes)
      fail(SIMT_HERE, nullptr, "%s overlaps %s in dynamic shared memory", name, other.name);
  }
  block.declared.push_back({nullptr, name, offset, bytes});
}

uint32_t shared_address(const void* p) {
  const Block& block = my_block();
  const auto* bytes = static_cast<const unsigned char*>(p);
  if (within(p, block.dynamic, state.shared + 1))
    return own_rank() | (kDynamicAddress + static_cast<uint32_t>(bytes - block.dynamic));
  if (within(p, block.window + kStaticAt, kStaticSpace))
    return own_rank() | (kStaticAddress + static_cast<uint32_t>(bytes - block.window - kStaticAt));
  fail(SIMT_HERE, nullptr, "shared_address of a pointer that does not point into this block's shared memory");
}

int shared_block(uint32_t address) {
  const uint32_t rank = address >> 24;
  return rank ? static_cast<int>(rank) - 1 : me().block;
}

uint32_t map_shared(uint32_t address, uint32_t rank) {
  if (rank >= state.blocks.size())
    fail(SIMT_HERE, nullptr, "map_shared: block %u of a cluster of %zu", rank, state.blocks.size());
  return (address & 0xffffff) | (rank + 1) << 24;
}

unsigned char* shared_bytes(uint32_t address, size_t bytes, size_t align, const char* what, void* where) {
  const int rank = shared_block(address);
  if (rank >= static_cast<int>(state.blocks.size()))
    fail(where, nullptr, "%s: 0x%x is no shared-memory address", what, address);
  const Block& block = state.blocks[rank];
  const uint32_t plain = address & 0xffffff;
  if (plain % align)
    fail(where, nullptr, "%s: shared address 0x%x is not %zu-byte aligned", what, address, align);
  if (plain >= kStaticAddress && plain - kStaticAddress + bytes <= kStaticSpace)
    return block.window + kStaticAt + (plain - kStaticAddress);
  if (plain < kDynamicAddress || plain - kDynamicAddress + bytes > state.shared)
    fail(where, nullptr, "%s: %zu bytes at shared address 0x%x leave the %zu bytes of dynamic shared memory",
         what, bytes, address, state.shared);
  return block.dynamic + (plain - kDynamicAddress);
}

Buffer* find_buffer(const void* p) {
  for (auto& buffer : buffers)
    if (within(p, buffer->map, buffer->map_size)) return buffer.get();
  return nullptr;
}

// The end of a buffer lies at an untouchable page, as far as 16-byte alignment allows. Shared between
// processes, because kernels run in a child of the test's.
Buffer* add_buffer(size_t bytes, const char* name, Use use) {
  auto buffer = std::make_unique<Buffer>();
  const size_t length = (bytes + kPage - 1) / kPage * kPage;
  buffer->map_size = length + 2 * kGuard;
  buffer->map = reserve(buffer->map_size);
  if (length && mmap(buffer->map + kGuard, length, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    return nullptr;
  buffer->bytes = buffer->map + kGuard + length - (bytes + 15) / 16 * 16;
  buffer->size = bytes;
  buffer->name = name;
  buffer->use = use;
  if (length) memset(buffer->map + kGuard, kPoison, length);
  buffers.push_back(std::move(buffer));
  return buffers.back().get();
}

void protect_inputs() {
  for (auto& b : buffers)
    if (b->use == Use::input) mprotect(b->map + kGuard, b->map_size - 2 * kGuard, PROT_READ);
}

void free_buffers() {
  for (auto& b : buffers) munmap(b->map, b->map_size);
  buffers.clear();
}

std::string buffer_near(const void* p) {
  char text[200];
  for (auto& b : buffers)
    if (within(p, b->map, b->map_size)) {
      snprintf(text, sizeof text, "byte %td of %s, an %s of %zu bytes",
               static_cast<const unsigned char*>(p) - b->bytes, b->name.c_str(),
               b->use == Use::input ? "input" : "output", b->size);
      return text;
    }
  for (const Block& block : state.blocks)
    if (block.window && within(p, block.window, kWindow)) return "near shared memory";
  if (state.current >= 0 && within(p, me().stack - kPage, kPage)) return "the thread's stack is full";
  snprintf(text, sizeof text, "address %p", p);
  return text;
}

}  // namespace simt
