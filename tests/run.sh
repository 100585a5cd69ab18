#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/run.sh [PRESET...]     presets: dev (all tests), asan, tsan; without any: all three
#
# Installs what is missing, builds and tests. The last line says "N passed, N failed"; the exit status is 0 only when
# something passed and nothing failed.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

install_missing "${build_packages[@]}" "${lint_packages[@]}" "${mpi_packages[@]}"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
broken=()

# UCX's hooks into malloc crash under the thread sanitizer; without them it is clean.
test_preset() {
  local preset=$1
  build_preset "$preset" || return
  heading "testing preset $preset"
  local environment=()
  [ "$preset" = tsan ] && environment=(UCX_MEM_EVENTS=n)
  env "${environment[@]}" ctest --preset "$preset" -j "$(nproc)" --output-junit "$results/$preset.xml"
}

[ $# -gt 0 ] || set -- dev asan tsan
for preset in "$@"; do
  test_preset "$preset" || broken+=("$preset")
done

heading "result"
[ ${#broken[@]} -eq 0 ] || echo "failed presets: ${broken[*]}"
python3 -B tests/lint/count_tests.py "$results"/*.xml
[ ${#broken[@]} -eq 0 ]
