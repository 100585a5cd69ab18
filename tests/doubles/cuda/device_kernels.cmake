# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors

# The kernels as plain C++, each thread a fiber: needs neither a device nor the toolkit. Optimised, unlike tests: millions of
# accesses are looked at one by one. With a sanitizer that takes ten times as long as it saves.
add_library(device_kernels OBJECT
  ${CMAKE_CURRENT_LIST_DIR}/device_kernels.cc ${CMAKE_CURRENT_LIST_DIR}/fibers.cc)
target_link_libraries(device_kernels PRIVATE reshard_flags)
if(NOT RESHARD_SANITIZE)
  target_compile_options(device_kernels PRIVATE -O1)
endif()
target_compile_options(device_kernels PRIVATE -Wno-unknown-pragmas)
set_target_properties(device_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
