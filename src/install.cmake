# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors

# What an installed reshard consists of: the library, its headers, a CMake package and a pkg-config file. All paths
# in them are relative to where they lie, so that the prefix may be moved.
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/reshard)

install(TARGETS reshard EXPORT reshard-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/reshard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} 
  FILES_MATCHING PATTERN *.h PATTERN *.hpp)
install(EXPORT reshard-targets NAMESPACE reshard:: DESTINATION ${package_dir})

set(config ${PROJECT_SOURCE_DIR}/src/reshard-config.cmake.in)
configure_package_config_file(${config} ${PROJECT_BINARY_DIR}/reshard-config.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change what callers see.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/reshard-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/reshard-config.cmake ${PROJECT_BINARY_DIR}/reshard-config-version.cmake
  DESTINATION ${package_dir})

file(RELATIVE_PATH RESHARD_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/src/reshard.pc.in ${PROJECT_BINARY_DIR}/reshard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/reshard.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
