#include "fibre.h"

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT  // the portable switch; it also makes a system call each time, so it is slower
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

namespace simt {

#ifdef SIMT_UCONTEXT

namespace {

// Made when first needed; every run is a process of its own, whose end frees it.
ucontext_t* place_of(Context& context) {
  if (!context.place) context.place = new ucontext_t{};
  return static_cast<ucontext_t*>(context.place);
}

}  // namespace

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  ucontext_t* const place = place_of(context);
  getcontext(place);
  place->uc_stack.ss_sp = stack;
  place->uc_stack.ss_size = bytes;
  place->uc_link = nullptr;
  makecontext(place, entry, 0);
}

void swap(Context& from, Context& to) {
  swapcontext(place_of(from), place_of(to));
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
  context.place = top;
}

void swap(Context& from, Context& to) {
  simt_swap(&from.place, to.place);
}

#endif

}  // namespace simt
