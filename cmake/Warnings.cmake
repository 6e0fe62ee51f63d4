# Warnings for our own code; headers of pybind11 and CUDA are system headers and stay silent.

function(nldf_warnings target)
  set(host -Wall -Wextra)
  if(NOT OpenMP_CXX_FOUND)
    list(APPEND host -Wno-unknown-pragmas)
  endif()
  if(NLDF_WERROR)
    list(APPEND host -Werror)
  endif()
  string(REPLACE ";" "," passed "${host}")
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:${host}>
      $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${passed},-Wno-unknown-pragmas>)
  endif()
endfunction()
