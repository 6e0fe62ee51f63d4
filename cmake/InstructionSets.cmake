# Sources of the CPU kernels that are compiled for more than the target's baseline. Which of them runs is
# decided at run time, so the module works on every processor of the architecture.

include(CheckCXXCompilerFlag)

function(nldf_instruction_sets target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    return()
  endif()
  set(fused -ffp-contract=fast)
  set(avx2 -mavx2 -mfma -mf16c ${fused})
  set(avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
    -mprefer-vector-width=512 ${fused})
  foreach(isa avx2 avx512)
    set(sources csrc/ops/convnet_${isa}.cpp csrc/ops/elementwise_${isa}.cpp csrc/ops/linear_${isa}.cpp csrc/ops/planes_${isa}.cpp
      csrc/ops/resmlp_${isa}.cpp csrc/ops/rows_${isa}.cpp csrc/ops/slots_${isa}.cpp)
    target_sources(${target} PRIVATE ${sources})
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${${isa}}")
  endforeach()
  target_compile_definitions(${target} PRIVATE NLDF_X86)
  # Compilers older than GCC 11 and Clang 11 know no AMX.
  check_cxx_compiler_flag("-mamx-tile -mamx-int8" NLDF_KNOWS_AMX)
  if(NLDF_KNOWS_AMX)
    target_sources(${target} PRIVATE csrc/ops/linear_amx.cpp)
    set_source_files_properties(csrc/ops/linear_amx.cpp PROPERTIES
      COMPILE_OPTIONS "${avx512};-mamx-tile;-mamx-int8")
    target_compile_definitions(${target} PRIVATE NLDF_AMX)
  endif()
endfunction()
