#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/figures.sh [--json FILE]
#
# Installs what is missing, builds the release preset, measures every figure and prints it beside its goal. Takes some
# minutes; run it on a machine that does nothing else.
set -euo pipefail
started_in=$PWD
source "$(dirname "$0")/../tests/setup.sh"

json=()
if [ $# -gt 0 ]; then
  if [ $# -ne 2 ] || [ "$1" != --json ]; then
    echo "usage: perf/figures.sh [--json FILE]" >&2
    exit 2
  fi
  json=(--json "$(cd "$started_in" && realpath -m "$2")")
fi
install_missing "${build_packages[@]}" "${mpi_packages[@]}"
build_preset release reshard_perf reshard_plan bench_copy bench_program bench_alltoallw kernels_cuda_test
heading "measuring"
python3 -B perf/figures/measure.py build/release/bin "${json[@]}"
heading "measuring over links of a known rate"
perf/real_links.sh build/release/bin
