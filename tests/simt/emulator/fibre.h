// A thread of the emulated device as a fibre: its own stack, and a switch that the scheduler orders.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT  // the portable switch; it also makes a system call each time, so it is slower
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

namespace simt {

#ifdef SIMT_UCONTEXT
using Context = ucontext_t;
#else
struct Context {
  void* stack_pointer = nullptr;
};
#endif

// Makes `context` begin with entry() on this stack; entry never returns.
void prepare(Context& context, char* stack, size_t bytes, void (*entry)());
// Saves the caller in `from` and goes on in `to`.
void swap(Context& from, Context& to);

}  // namespace simt
