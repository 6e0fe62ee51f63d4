// The C interface that tests/simt/runner.py calls.
#include "harness.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <map>

#include "state.h"

namespace simt {

namespace {
std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> known;
  return known;
}
}  // namespace

void add_kernel(const char* name, Kernel kernel) {
  kernels()[name] = std::move(kernel);
}

}  // namespace simt

using simt::kernels;

extern "C" {

// The fields of a kernel's argument struct, each followed by a comma; null for an unknown kernel.
const char* simt_fields(const char* kernel) {
  const auto found = kernels().find(kernel);
  return found == kernels().end() ? nullptr : found->second.fields.c_str();
}

int simt_set(const char* kernel, const char* field, int64_t integer, double number) {
  const auto found = kernels().find(kernel);
  return found != kernels().end() && found->second.set(field, integer, number);
}

// use: 0 input, 1 output (poisoned, not to be read before it is written), 2 both.
void* simt_buffer(uint64_t bytes, const char* name, int use) {
  simt::Buffer* buffer = simt::add_buffer(bytes, name, static_cast<simt::Use>(use));
  return buffer ? buffer->bytes : nullptr;
}

void simt_free_buffers() {
  simt::free_buffers();
}

int simt_has_checker() {
  return simt::race_mode;
}

// Runs the kernel in a child. Returns 0, or 1 with the message of the fault. `stats` takes 8 numbers.
int simt_run(const char* kernel, uint64_t seed, unsigned seconds, char* message, uint64_t size,
             uint64_t* stats) {
  static_assert(sizeof(simt::Stats) == 8 * sizeof(uint64_t), "as runner.py reads them");
  message[0] = 0;
  int ends[2];
  void* shared =
      mmap(nullptr, sizeof(simt::Stats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const auto found = kernels().find(kernel);
  if (found == kernels().end() || shared == MAP_FAILED || pipe(ends)) {
    snprintf(message, size, "unknown kernel %s, or no memory", kernel);
    return 1;
  }
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    simt::catch_signals(ends[1], seconds);
    simt::protect_inputs();
    simt::state.seed = seed;
    try {
      found->second.run();
    } catch (const std::exception& error) {
      if (write(ends[1], error.what(), strlen(error.what())) < 0) _exit(3);
      _exit(2);
    }
    memcpy(shared, &simt::state.stats, sizeof(simt::Stats));
    _exit(0);
  }
  close(ends[1]);
  uint64_t at = 0;
  while (child > 0 && at + 1 < size) {
    const ssize_t n = read(ends[0], message + at, size - 1 - at);
    if (n <= 0) break;
    at += static_cast<uint64_t>(n);
  }
  message[at] = 0;
  close(ends[0]);
  int status = 0;
  const bool ended = child > 0 && waitpid(child, &status, 0) == child;
  memcpy(stats, shared, sizeof(simt::Stats));
  munmap(shared, sizeof(simt::Stats));
  if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  if (!at) snprintf(message, size, "the process that ran the kernel ended with status %d", status);
  return 1;
}
}
