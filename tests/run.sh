#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/run.sh [PRESET...]     presets: dev (all tests), asan, tsan; without any: all three
#
# Installs what is missing, builds and tests. The last line says "N passed, N failed"; the exit status is 0 only when
# something passed and nothing failed.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# test_preset PRESET: all tests; under the thread sanitizer those that have more than one thread.
test_preset() {
  local preset=$1 targets=() selection=()
  if [ "$preset" = tsan ]; then
    targets=(exec_test transport_test api_test reshard_perf reshard_plan)
    selection=(--tests-regex '^(exec|transport|api|.*_local)_test$')
    export UCX_MEM_EVENTS=n  # UCX's hooks into malloc crash under this sanitizer; without them it is clean
  fi
  build_preset "$preset" "${targets[@]}" || return
  heading "testing preset $preset"
  ctest --preset "$preset" -j "$(nproc)" "${selection[@]}" --output-junit "$results/$preset.xml"
}

install_missing "${build_packages[@]}" "${lint_packages[@]}" "${mpi_packages[@]}" "${page_packages[@]}"
[ $# -gt 0 ] || set -- dev asan tsan
broken=()
for preset in "$@"; do
  (test_preset "$preset") || broken+=("$preset")
done

heading "result"
[ ${#broken[@]} -eq 0 ] || echo "failed presets: ${broken[*]}"
python3 -B tests/lint/count_tests.py "$results"/*.xml
[ ${#broken[@]} -eq 0 ]
