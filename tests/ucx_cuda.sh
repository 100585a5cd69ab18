#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/ucx_cuda.sh [GTEST_FILTER]
#
# Builds src/transport against a UCX that was made with CUDA, from PyPI, in place of that of Debian, and runs its tests. On
# a machine without a device such a UCX moves the memory of the host alone, and must do that as Debian's does. Not in
# tests/run.sh: it takes 43 MB from the network and builds the room once more.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
install_missing "${build_packages[@]}"
version=1.22.0
wheel=$PWD/build/ucx-cuda-$version
[ -d "$wheel/libucx" ] || python3 -m pip install --quiet --no-deps --target "$wheel" "libucx-cu13==$version"
cmake -S . -B build/ucx-cuda -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG" \
  -Ducx_DIR="$wheel/libucx/lib/cmake/ucx" \
  -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
cmake --build build/ucx-cuda --target transport_test ucx_memory_type_test
heading "transport on UCX $version with CUDA"
ldd build/ucx-cuda/bin/transport_test | grep -F "$wheel/libucx/lib/libucp.so"  # and no other
build/ucx-cuda/bin/ucx_memory_type_test
build/ucx-cuda/bin/transport_test ${1:+"--gtest_filter=$1"}
