#include "fibre.h"

namespace simt {

#ifdef SIMT_UCONTEXT

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void swap(Context& from, Context& to) {
  swapcontext(&from, &to);
}

#else

// Pushes what the ABI wants kept, exchanges the stacks, pops the other's.
extern "C" void simt_swap(void** save, void* load);
asm(R"(
.pushsection .text
.hidden simt_swap
.globl simt_swap
.type simt_swap, @function
simt_swap:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size simt_swap, .-simt_swap
.popsection
)");

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;  // the stack is 16-byte aligned where entry would have been called
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
}

void swap(Context& from, Context& to) {
  simt_swap(&from.stack_pointer, to.stack_pointer);
}

#endif

}  // namespace simt
