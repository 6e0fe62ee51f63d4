# Puts GCC's OpenMP runtime into the package, for machines that have no compiler and so may lack it.
#
# Under its plain name: torch brings one of the same name and is loaded first, and the loader does not load a
# second library of a name. So one runtime serves both, and torch.set_num_threads governs both. Tools that
# repair wheels would rename it, and there would be two, each with threads of its own.

function(nldf_bundle_openmp target)
  if(NOT OpenMP_CXX_FOUND OR NOT OpenMP_gomp_LIBRARY)
    message(FATAL_ERROR "NLDF_BUNDLE_OPENMP=ON, but GCC's OpenMP runtime (libgomp) was not found: "
      "build with GCC, or leave it out with NLDF_BUNDLE_OPENMP=OFF.")
  endif()
  get_filename_component(runtime "${OpenMP_gomp_LIBRARY}" REALPATH)
  install(FILES "${runtime}" DESTINATION nldf_engine RENAME libgomp.so.1)
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
endfunction()
