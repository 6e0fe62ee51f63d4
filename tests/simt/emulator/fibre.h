// A thread of the emulated device as a fibre: its own stack, and a switch that the scheduler orders.
#pragma once

#include <cstddef>

namespace simt {

// Where a fibre goes on: its stack pointer, or its ucontext_t.
struct Context {
  void* place = nullptr;
};

// Makes `context` begin with entry() on this stack; entry never returns.
void prepare(Context& context, char* stack, size_t bytes, void (*entry)());
// Saves the caller in `from` and goes on in `to`.
void swap(Context& from, Context& to);

}  // namespace simt
