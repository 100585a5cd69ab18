#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/clusters.sh [BIN_DIR] [OPTION...]
#
# Plans for random clusters and prints how near the limit the plans are; perf/figures/clusters.py --help has the options.
# Without BIN_DIR it installs what is missing and builds the release preset. All 840 take some minutes.
set -euo pipefail
started_in=$PWD
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  bin_dir=$(realpath -m "$1")
  shift
else
  source "$root/tests/setup.sh"
  install_missing "${build_packages[@]}"
  build_preset release reshard_plan
  bin_dir=$root/build/release/bin
  cd "$started_in"
fi
exec python3 -B "$root/perf/figures/clusters.py" "$bin_dir" "$@"
