# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors

# What an installed reshard consists of: the library, its headers, a CMake package and a pkg-config file. All paths
# in them are relative to where they lie, so that the prefix may be moved. What only a compiler needs is of the component
# "development".
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/reshard)
option(RESHARD_WHEEL "Install as a Python wheel needs it: the library beside what it links, but for UCX" OFF)

install(TARGETS reshard EXPORT reshard-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  NAMELINK_COMPONENT development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/reshard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN *.h PATTERN *.hpp)
install(EXPORT reshard-targets NAMESPACE reshard:: DESTINATION ${package_dir} COMPONENT development)

set(config ${PROJECT_SOURCE_DIR}/src/reshard-config.cmake.in)
configure_package_config_file(${config} ${PROJECT_BINARY_DIR}/reshard-config.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change what callers see.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/reshard-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/reshard-config.cmake ${PROJECT_BINARY_DIR}/reshard-config-version.cmake
  DESTINATION ${package_dir} COMPONENT development)

file(RELATIVE_PATH RESHARD_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/src/reshard.pc.in ${PROJECT_BINARY_DIR}/reshard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/reshard.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

if(RESHARD_WHEEL)
  # A wheel has no symbolic links: the file has the name that programs look for. DT_RPATH, other than DT_RUNPATH, also
  # serves what the libraries beside it link in turn.
  set_target_properties(reshard PROPERTIES VERSION ${PROJECT_VERSION_MAJOR} INSTALL_RPATH "$ORIGIN")
  target_link_options(reshard PRIVATE -Wl,--disable-new-dtags)
  configure_file(${PROJECT_SOURCE_DIR}/src/install_dependencies.cmake.in ${PROJECT_BINARY_DIR}/install_dependencies.cmake @ONLY)
  install(SCRIPT ${PROJECT_BINARY_DIR}/install_dependencies.cmake)
endif()
