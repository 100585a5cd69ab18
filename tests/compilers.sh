#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/compilers.sh [--update]
#
# Builds reshard_plan with clang and compares the hashes of plans with those kept, which tests/run.sh compares with those
# of GCC's build; --update keeps clang's. Not in tests/run.sh: it would build the library once more.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
install_missing "${build_packages[@]}" clang
cmake -S . -B build/clang -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DBUILD_TESTING=OFF -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
cmake --build build/clang --target reshard_plan
python3 -B tests/multi/run_hashes.py --plan build/clang/bin/reshard_plan "$@"
