#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/instructions.sh [--update]
#
# Counts the instructions that reshard_plan executes for three jobs, under valgrind, and prints them beside the counts kept
# in perf/results/planner_instructions.json. Counts hardly vary from run to run, as times do, so that a planner that
# became slower shows. --update keeps the new counts. They are those of one compiler and one kind of processor.
set -euo pipefail
update=()
if [ $# -gt 0 ]; then
  if [ $# -ne 1 ] || [ "$1" != --update ]; then
    echo "usage: perf/instructions.sh [--update]" >&2
    exit 2
  fi
  update=(--update)
fi
source "$(dirname "$0")/../tests/setup.sh"

install_missing "${build_packages[@]}" valgrind
build_preset release reshard_plan
heading "counting"
python3 -B perf/figures/instructions.py build/release/bin/reshard_plan "${update[@]}"
