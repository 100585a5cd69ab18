# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors

# Finds what is there and remembers one line about each for the summary.
set(RESHARD_SUMMARY)
function(reshard_summarise name found detail)
  if(found)
    set(line "  ${name}: found, ${detail}")
  else()
    set(line "  ${name}: left out, ${detail}")
  endif()
  set(RESHARD_SUMMARY "${RESHARD_SUMMARY}" "${line}" PARENT_SCOPE)
endfunction()

reshard_configure_flags()
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(pugixml REQUIRED)
find_package(yaml-cpp REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
set(standard_headers <algorithm> <functional> <map> <memory> <optional> <set> <string> <vector>)
reshard_precompile(room_headers PIC LIBRARIES fmt::fmt HEADERS ${standard_headers} <fmt/format.h>)
if(RESHARD_SANITIZE MATCHES address)
  reshard_precompile(hot_room_headers PIC LIBRARIES fmt::fmt OPTIONS -O1 HEADERS ${standard_headers} <fmt/format.h>)
endif()

find_package(ucx CONFIG QUIET)
set(RESHARD_HAVE_UCX ${ucx_FOUND})
reshard_summarise("UCX" "${ucx_FOUND}" "transport between processes (libucx-dev)")

pkg_check_modules(hwloc QUIET IMPORTED_TARGET hwloc)
set(RESHARD_HAVE_HWLOC ${hwloc_FOUND})
reshard_summarise("hwloc" "${hwloc_FOUND}" "discovery of this host (libhwloc-dev)")

# Device code is compiled for the architectures that trainers and servers have, and as PTX of the newest for those to come.
# Nothing of it needs a GPU to be built. The runtime is linked statically, so that no program needs the toolkit.
option(RESHARD_CUDA "Build what moves GPU memory, if the CUDA toolkit is found" ON)
set(RESHARD_HAVE_CUDA FALSE)
if(RESHARD_CUDA)
  find_package(CUDAToolkit 13.0 QUIET)
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
    endif()
    # The same in all presets, so that the compiler's cache has what another preset has built: it takes a minute, and what
    # the kernels do is checked in builds of other compilers (tests/doubles/cuda).
    foreach(config DEBUG RELEASE RELWITHDEBINFO MINSIZEREL)
      set(CMAKE_CUDA_FLAGS_${config} "-O3 -DNDEBUG" CACHE STRING "Flags of nvcc")
    endforeach()
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    set(CMAKE_CUDA_RUNTIME_LIBRARY None) # who links decides: production the static one, tests a double of it
    enable_language(CUDA)
    set(RESHARD_HAVE_CUDA TRUE)
  endif()
endif()
reshard_summarise("CUDA" "${RESHARD_HAVE_CUDA}" "GPU memory (toolkit 13.0 or newer)")
# Of NCCL only the header is needed: the library is found at run time, and is the one that the job's framework brought.
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
set(RESHARD_HAVE_NCCL FALSE)
set(nccl_version none)
if(NCCL_INCLUDE_DIR)
  file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h nccl_version REGEX "#define NCCL_VERSION_CODE [0-9]+")
  string(REGEX REPLACE ".* " "" nccl_version "${nccl_version}")
  if(RESHARD_HAVE_CUDA AND nccl_version GREATER_EQUAL 22800)
    set(RESHARD_HAVE_NCCL TRUE)
  endif()
endif()
reshard_summarise("NCCL" "${RESHARD_HAVE_NCCL}" "GPU memory between hosts (nccl.h of 22800 or newer with CUDA, here ${nccl_version})")

find_package(MPI QUIET COMPONENTS C)
reshard_summarise("MPI" "${MPI_C_FOUND}" "baseline of the benchmarks only (libopenmpi-dev)")

function(reshard_print_summary)
  message(STATUS "reshard ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}, sanitizers: \"${RESHARD_SANITIZE}\"")
  foreach(line IN LISTS RESHARD_SUMMARY)
    message(STATUS "${line}")
  endforeach()
endfunction()
