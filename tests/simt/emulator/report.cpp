// How a fault is reported: one message with the thread, the seed and the source lines, and the end of the
// process. The harness runs kernels in a process of their own, so nothing needs to be unwound.
#include <dlfcn.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "state.h"

namespace simt {

namespace {

int report_to = 2;

void write_out(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = write(report_to, text.data() + at, text.size() - at);
    if (n <= 0) break;
    at += static_cast<size_t>(n);
  }
}

// file:line of a code address, without the lines of the runner and of ptx.cuh that were inlined there.
std::string source_line(void* address) {
  Dl_info info;
  if (!address || !dladdr(address, &info) || !info.dli_fname) return "";
  const uintptr_t offset =
      reinterpret_cast<uintptr_t>(address) - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase);
  char command[4096];
  snprintf(command, sizeof command,
           "addr2line -i -s -e '%s' 0x%zx 2>/dev/null | grep -v -E "
           "'^(cuda|half|ptx)\\.h:|^(ptx|wgmma)\\.cuh:' | head -1",
           info.dli_fname, static_cast<size_t>(offset));
  std::string line;
  if (FILE* pipe = popen(command, "r")) {
    char text[512];
    if (fgets(text, sizeof text, pipe)) line = text;
    pclose(pipe);
  }
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  return line;
}

std::string at_thread() {
  char text[256];
  if (state.current < 0) {
    snprintf(text, sizeof text, "\n  in %s, seed %llu", state.kernel,
             static_cast<unsigned long long>(state.seed));
  } else {
    const Fibre& f = me();
    const uint3 b = state.blocks[f.block].index;
    snprintf(text, sizeof text, "\n  in %s, block (%u,%u,%u), thread (%u,%u,%u), seed %llu", state.kernel,
             b.x, b.y, b.z, f.index.x, f.index.y, f.index.z, static_cast<unsigned long long>(state.seed));
  }
  return text;
}

std::string at_line(const char* label, void* where) {
  const std::string line = source_line(where);
  return line.empty() ? "" : "\n  " + std::string(label) + " " + line;
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (signal == SIGPROF) {
    write_out("the kernel ran out of time: a loop that never ends, or a wait for nothing" + at_thread());
  } else {
    write_out("access outside of every buffer, or misaligned: " + buffer_near(info->si_addr) + at_thread());
  }
  _exit(2);
}

}  // namespace

std::string who(int agent) {
  char text[96];
  const Fibre& f = state.fibres[agent % state.agents];
  snprintf(text, sizeof text, "%s thread %d of block %u",
           agent < state.agents ? "" : "an asynchronous operation of", f.thread,
           state.blocks[f.block].index.x);
  return text[0] == ' ' ? text + 1 : text;
}

void fail(void* where, void* other, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  write_out(std::string(text) + at_thread() + at_line("at", where) + at_line("against", other));
  _exit(2);
}

void fail_deadlock() {
  std::map<std::pair<std::string, void*>, std::pair<int, int>> waits;  // what, where: how many, the first
  for (const Fibre& f : state.fibres) {
    if (f.done) continue;
    auto& entry = waits[{f.waiting ? f.waiting : "?", f.where}];
    if (!entry.first++) entry.second = f.id;
  }
  state.current = -1;
  std::string text = "deadlock: no thread can go on" + at_thread();
  for (const auto& [key, count] : waits) {
    text += "\n  " + std::to_string(count.first) + " wait in " + key.first + ", the first " +
            who(count.second) + at_line("at", key.second);
  }
  write_out(text);
  _exit(2);
}

void catch_signals(int report, unsigned seconds) {
  report_to = report;
  static char stack[64 << 10];
  stack_t own{};
  own.ss_sp = stack;
  own.ss_size = sizeof stack;
  sigaltstack(&own, nullptr);
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGPROF}) sigaction(signal, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Time of this process, not of the clock: the machine may be busy.
  itimerval limit{};
  limit.it_value.tv_sec = static_cast<time_t>(seconds);
  setitimer(ITIMER_PROF, &limit, nullptr);
}

}  // namespace simt
