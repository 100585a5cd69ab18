#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/real_links.sh [--json FILE] [BIN_DIR]
#
# Runs plans over links of a known rate and prints what they gain beside the goals: several hosts as network namespaces
# of this machine, joined by links that tc holds to 1 Gbit/s or less. Needs root; where hosts cannot be made it says so and
# succeeds. Without BIN_DIR it installs what is missing and builds the release preset. Takes about four minutes.
set -euo pipefail
started_in=$PWD
json=()
if [ "${1:-}" = --json ] && [ $# -ge 2 ]; then
  json=(--json "$(realpath -m "$2")")
  shift 2
fi
if [ $# -gt 1 ]; then
  echo "usage: perf/real_links.sh [--json FILE] [BIN_DIR]" >&2
  exit 2
fi
bin_dir=${1:+$(cd "$started_in" && realpath -m "$1")}
if [ "$(id -u)" -ne 0 ]; then
  echo "real links: skipped: only root can make network namespaces"
  exit 0
fi
for tool in ip tc nsenter unshare; do
  if ! command -v "$tool" > /dev/null; then
    echo "real links: skipped: there is no $tool (Debian: iproute2, util-linux)"
    exit 0
  fi
done
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "$bin_dir" ]; then
  source "$root/tests/setup.sh"
  install_missing "${build_packages[@]}"
  build_preset release reshard_perf
  bin_dir=$root/build/release/bin
fi
# The namespaces go when this ends in any way but SIGKILL: exec, so that signals reach the program that made them.
exec python3 -B "$root/perf/figures/real_links.py" "$bin_dir" "${json[@]}"
