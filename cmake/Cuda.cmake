# Decides whether the CUDA kernels are built, and for which architectures.
#
# Sets NLDF_WITH_CUDA and defines nldf_cuda_sources(target source...).

set(NLDF_WITH_CUDA OFF)
string(TOUPPER "${NLDF_CUDA}" NLDF_CUDA)
if(NOT NLDF_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "NLDF_CUDA is '${NLDF_CUDA}': expected AUTO, ON or OFF.")
endif()

if(NOT NLDF_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
      # 90a, not 90: the Hopper kernels use instructions that exist in the "a" variant only. The PTX of
      # compute_80 lets newer devices compile what no binary fits.
      set(NLDF_OWN_ARCHITECTURES ON)
      set(CMAKE_CUDA_ARCHITECTURES "80-real;80-virtual;86-real;89-real;90a-real" CACHE STRING
        "CUDA architectures to build for")
    endif()
    enable_language(CUDA)
    # Blackwell, where the compiler knows it: without, its devices compile the PTX at their first start.
    if(NLDF_OWN_ARCHITECTURES AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      set(CMAKE_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES};100-real;120-real" CACHE STRING
        "CUDA architectures to build for" FORCE)
    endif()
    set(NLDF_WITH_CUDA ON)
    message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, "
      "architectures ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(NLDF_CUDA STREQUAL "ON")
    message(FATAL_ERROR
      "NLDF_CUDA=ON, but no working CUDA compiler was found.\n"
      "Put nvcc on PATH or set CUDACXX=/usr/local/cuda/bin/nvcc, then build again; "
      "or build for the CPU alone with NLDF_CUDA=OFF (pip install . -C cmake.define.NLDF_CUDA=OFF).")
  else()
    message(STATUS "CUDA kernels: no CUDA compiler was found, building for the CPU alone")
  endif()
else()
  message(STATUS "CUDA kernels: left out (NLDF_CUDA=OFF)")
endif()

function(nldf_cuda_sources target)
  target_sources(${target} PRIVATE ${ARGN})
  string(REPLACE ";" "," archs "${CMAKE_CUDA_ARCHITECTURES}")
  target_compile_definitions(${target} PRIVATE NLDF_WITH_CUDA NLDF_CUDA_ARCHS="${archs}"
    $<$<OR:$<CONFIG:Debug>,$<BOOL:${NLDF_TRAP_ON_HANG}>>:NLDF_TRAP_ON_HANG>)
  # The static runtime needs no libcudart on the user's machine and loads the driver only when it is
  # first called, so the module imports where there is no driver at all.
  set_target_properties(${target} PROPERTIES
    CUDA_RUNTIME_LIBRARY Static
    CUDA_STANDARD 17
    CUDA_STANDARD_REQUIRED ON)
  if(NLDF_PTXAS_REPORT)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  endif()
endfunction()
