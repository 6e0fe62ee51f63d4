# Sources of the CPU kernels that are compiled for more than the target's baseline. Which of them runs is
# decided at run time, so the module works on every processor of the architecture.

function(nldf_instruction_sets target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    return()
  endif()
  target_sources(${target} PRIVATE csrc/resmlp_avx2.cpp csrc/resmlp_avx512.cpp
    csrc/planes_avx2.cpp csrc/planes_avx512.cpp)
  target_compile_definitions(${target} PRIVATE NLDF_X86)
  set(fused -ffp-contract=fast)
  set_source_files_properties(csrc/resmlp_avx2.cpp csrc/planes_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;${fused}")
  set_source_files_properties(csrc/resmlp_avx512.cpp csrc/planes_avx512.cpp PROPERTIES COMPILE_OPTIONS
    "-mavx2;-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mprefer-vector-width=512;${fused}")
endfunction()
