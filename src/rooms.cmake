# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors

# Flags that every target of the project is compiled with; nothing here reaches a consumer.
add_library(reshard_flags INTERFACE)
target_compile_features(reshard_flags INTERFACE cxx_std_20 c_std_99)
target_include_directories(reshard_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})

function(reshard_configure_flags)
  target_compile_options(reshard_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wshadow>
    $<$<COMPILE_LANGUAGE:CXX>:-Wsign-conversion -Wconversion -Wnon-virtual-dtor -fvisibility=hidden>)
  if(RESHARD_WARNINGS_AS_ERRORS)
    target_compile_options(reshard_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
  endif()
  # GCC 12 sees overlaps in std::string that are not there, at -O3 (its bug 105651), and reads beyond vectors of bytes that
  # are compared.
  target_compile_options(reshard_flags INTERFACE
    $<$<AND:$<CONFIG:Release>,$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict;-Wno-stringop-overread>)
  if(RESHARD_SANITIZE)
    target_compile_options(reshard_flags INTERFACE
      $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${RESHARD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all>)
    target_link_options(reshard_flags INTERFACE -fsanitize=${RESHARD_SANITIZE})
    if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
      # Functions of libraries found at run time have types that we declare, with structs of our own.
      if(RESHARD_SANITIZE MATCHES undefined)
        target_compile_options(reshard_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=function>)
      endif()
      # GCC says so by itself.
      string(REGEX MATCH "address|thread" sanitizer ${RESHARD_SANITIZE})
      if(sanitizer)
        string(TOUPPER ${sanitizer} sanitizer)
        target_compile_definitions(reshard_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:__SANITIZE_${sanitizer}__=1>)
      endif()
    endif()
    # A check of each pointer takes a quarter of the time of such a build. A null pointer is found by the address
    # sanitizer, too, and misaligned ones come from raw memory: the rooms that touch it say so (RAW_MEMORY).
    if(RESHARD_SANITIZE MATCHES undefined)
      target_compile_options(reshard_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize=null,alignment>)
    endif()
  endif()
endfunction()

# reshard_precompile(TARGET [PIC] LIBRARIES ... OPTIONS ... HEADERS ...): a target whose headers are parsed once for all targets
# that say reshard_precompiled(OTHER TARGET); they must link the same libraries, as far as those define macros. Only where
# RESHARD_PRECOMPILE says so: a build without it shows which file forgot to include what it uses.
function(reshard_precompile target)
  cmake_parse_arguments(HEADERS "PIC" "" "LIBRARIES;OPTIONS;HEADERS" ${ARGN})
  if(NOT RESHARD_PRECOMPILE)
    return()
  endif()
  add_library(${target} OBJECT ${PROJECT_SOURCE_DIR}/src/precompiled.cc)
  target_link_libraries(${target} PRIVATE reshard_flags ${HEADERS_LIBRARIES})
  target_compile_options(${target} PRIVATE ${HEADERS_OPTIONS} $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>) # for ccache
  target_precompile_headers(${target} PRIVATE ${HEADERS_HEADERS})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ${HEADERS_PIC}) # as those that take them
endfunction()
function(reshard_precompiled target from)
  if(RESHARD_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM ${from})
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  endif()
endfunction()

# reshard_join(TARGET BATCH): with RESHARD_JOIN_SOURCES its sources are compiled BATCH at a time (0: all) as one file, in
# about half the time. A source that has names in its anonymous namespace that another one has, too, stands apart:
# reshard_apart(SOURCES...). A build without it shows that each source stands on its own.
function(reshard_join target batch)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${RESHARD_JOIN_SOURCES} UNITY_BUILD_BATCH_SIZE ${batch})
endfunction()
function(reshard_apart)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# reshard_room(NAME [HOT] [RAW_MEMORY] [CUDA_RUNTIME] SOURCES ... ROOMS ... LIBRARIES ...): one room of the house as an
# object library room_NAME. ROOMS are the rooms it may include, LIBRARIES third-party targets that it alone uses. HOT:
# tests spend their time in it, and it is optimised with the address sanitizer, too; compiling the others so takes longer
# than it saves. RAW_MEMORY: it computes addresses of the caller's memory. CUDA_RUNTIME: it calls the CUDA runtime; which
# one, whoever links it decides.
function(reshard_room name)
  cmake_parse_arguments(ROOM "HOT;RAW_MEMORY;CUDA_RUNTIME" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_library(room_${name} OBJECT ${ROOM_SOURCES})
  target_link_libraries(room_${name} PRIVATE reshard_flags ${ROOM_LIBRARIES})
  set_target_properties(room_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  reshard_join(room_${name} 40) # most rooms as one: headers and templates are then compiled once
  if(ROOM_RAW_MEMORY AND RESHARD_SANITIZE MATCHES undefined)
    target_compile_options(room_${name} PRIVATE -fsanitize=null,alignment -fno-sanitize-recover=all)
  endif()
  set(headers room_headers)
  if(ROOM_HOT AND RESHARD_SANITIZE MATCHES address)
    target_compile_options(room_${name} PRIVATE -O1)
    set(headers hot_room_headers)
  endif()
  if("fmt::fmt" IN_LIST ROOM_LIBRARIES)
    reshard_precompiled(room_${name} ${headers})
  endif()
  set_property(GLOBAL APPEND PROPERTY RESHARD_ROOMS ${name})
  # The closure of rooms, in the order of definition, for tests that link a room without the whole library.
  set(closure ${name})
  foreach(room IN LISTS ROOM_ROOMS)
    get_property(below GLOBAL PROPERTY RESHARD_CLOSURE_${room})
    list(APPEND closure ${below})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set_property(GLOBAL PROPERTY RESHARD_CLOSURE_${name} ${closure})
  set_property(GLOBAL PROPERTY RESHARD_LIBRARIES_${name} ${ROOM_LIBRARIES})
  set_property(GLOBAL PROPERTY RESHARD_CUDA_RUNTIME_${name} ${ROOM_CUDA_RUNTIME})
  if(ROOM_CUDA_RUNTIME)
    target_include_directories(room_${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  endif()
endfunction()

# reshard_link_rooms(TARGET ROOM... [CUDA_DOUBLE]): links the objects of the rooms and of all that they include, and the CUDA
# runtime where they call it. CUDA_DOUBLE: the tests' double in its place (tests/doubles/cuda).
function(reshard_link_rooms target)
  cmake_parse_arguments(LINK "CUDA_DOUBLE" "" "" ${ARGN})
  set(closure)
  foreach(room IN LISTS LINK_UNPARSED_ARGUMENTS)
    get_property(below GLOBAL PROPERTY RESHARD_CLOSURE_${room})
    list(APPEND closure ${below})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  foreach(room IN LISTS closure)
    get_property(libraries GLOBAL PROPERTY RESHARD_LIBRARIES_${room})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:room_${room}>)
    target_link_libraries(${target} PRIVATE ${libraries})
    get_property(calls_cuda GLOBAL PROPERTY RESHARD_CUDA_RUNTIME_${room})
    if(calls_cuda)
      target_link_libraries(${target} PRIVATE $<IF:$<BOOL:${LINK_CUDA_DOUBLE}>,cuda_double,CUDA::cudart_static>)
    endif()
  endforeach()
  target_link_libraries(${target} PRIVATE reshard_flags)
endfunction()
