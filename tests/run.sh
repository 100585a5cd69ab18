#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/run.sh [PRESET...]     presets: dev, asan, tsan; without any: all three, each test once
#
# Installs what is missing, builds and tests. The last line says "N passed, N failed"; the exit status is 0 only when
# something passed and nothing failed.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# Tests of the adapters skip, saying why, where the packages of the frameworks could not be had.
wait_for_frameworks() {
  until [ -e "$results/frameworks.tried" ]; do sleep 1; done
  [ -e build/oracles/complete ] || { heading "no packages of frameworks" && cat "$results/frameworks.log"; }
}

# choose PRESET: what is built and run of it: targets, selection, configure_options. With all presets each test runs once
# where it finds most: those of single rooms under the address sanitizer, those of whole runs, of the tree and of the
# installed package in dev, and those with several threads under the thread sanitizer. A preset that is named runs all
# that it has.
choose() {
  targets=() selection=() configure_options=(-DRESHARD_CUDA=ON)
  if [ "$1" = tsan ]; then
    targets=(exec_test transport_test api_test)
    selection=(--tests-regex '^(exec|transport|api)_test$')
    if [ "$is_divided" = yes ]; then
      export GTEST_FILTER='-Transports/*Ucx*'  # processes with one thread each: asan has them
      configure_options=(-DRESHARD_CUDA=OFF)   # and this is the build without the toolkit
    else
      targets+=(reshard_perf reshard_plan)
      selection=(--tests-regex '^(exec|transport|api|.*_local)_test$')  # more random runs by threads
    fi
    export UCX_MEM_EVENTS=n  # UCX's hooks into malloc crash under this sanitizer; without them it is clean
  elif [ "$is_divided" = yes ] && [ "$1" = dev ]; then
    # That each source stands on its own is seen by clang-tidy, which compiles alone what has changed.
    configure_options+=(-DRESHARD_UNIT_TESTS=OFF -DRESHARD_JOIN_SOURCES=ON -DRESHARD_PRECOMPILE=ON)
  elif [ "$is_divided" = yes ] && [ "$1" = asan ]; then
    targets=(unit_tests reshard_perf)
    selection=(--label-regex '^(unit|readers)$')
  fi
}

# build PRESET: leaves its status in PRESET.built.
build() {
  local begin=$SECONDS status=0
  choose "$1"
  build_preset "$1" "${targets[@]}" || status=$?
  echo "$1: built in $((SECONDS - begin)) s" >> "$results/times"
  echo "$status" > "$results/$1.built"
}

# test_preset PRESET: once it is built
test_preset() {
  choose "$1"
  local begin=$SECONDS status=0
  wait_for_frameworks
  echo "$1: waited $((SECONDS - begin)) s for packages of frameworks" >> "$results/times"
  begin=$SECONDS
  heading "testing preset $1"
  # Of this many places a test takes two, but one that mostly waits for deadlines takes one (PROCESSORS): it leaves the
  # core to another.
  ctest --preset "$1" -j "$((2 * $(nproc)))" "${selection[@]}" --output-junit "$results/$1.xml" || status=$?
  echo "$1: tested in $((SECONDS - begin)) s" >> "$results/times"
  return $status
}

install_missing "${build_packages[@]}" "${lint_packages[@]}" "${mpi_packages[@]}" "${page_packages[@]}" \
  "${gpu_packages[@]}" "${framework_packages[@]}"
installed=$SECONDS
# The frameworks' packages come over the network while the compiler works; their tests say so where they did not.
(tests/families/environment.sh > "$results/frameworks.log" 2>&1 || true; touch "$results/frameworks.tried") &
is_divided=no
[ $# -gt 0 ] || { is_divided=yes && set -- dev asan tsan; }
broken=()
(build "$1")
for preset in "$@"; do
  shift
  begin=$SECONDS
  if [ ! -e "$results/$preset.built" ]; then
    wait $!
    cat "$results/$preset.log"
    echo "$preset: of that $((SECONDS - begin)) s with nothing beside it" >> "$results/times"
  fi
  # The next is built beside these tests, as far as they leave the cores idle: many of them wait for deadlines.
  [ $# -eq 0 ] || { (renice -n 19 $BASHPID > /dev/null; build "$1") > "$results/$1.log" 2>&1 & }
  if [ "$(cat "$results/$preset.built")" -ne 0 ] || ! (test_preset "$preset"); then broken+=("$preset"); fi
done

heading "result"
echo "installed in $installed s"
cat "$results/times"
[ ${#broken[@]} -eq 0 ] || echo "failed presets: ${broken[*]}"
python3 -B tests/lint/count_tests.py "$results"/*.xml
[ ${#broken[@]} -eq 0 ]
