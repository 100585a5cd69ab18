#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/soak.sh [MINUTES]     60 unless given
#
# By hand: what tests/run.sh tries for a minute each with fixed seeds, or with a third of the cases, again and again with
# new ones: properties of single rooms, jobs that come to harm, random transfers between processes and over machines,
# damaged specs, transfers between frameworks. Prints one line a round and stops at the first failure, whose seed it
# leaves in sight.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
install_missing "${build_packages[@]}" "${lint_packages[@]}" "${mpi_packages[@]}"
build_preset dev

bin=build/dev/bin
end=$((SECONDS + 60 * ${1:-60}))
seed=$(date +%s)
perf=(--perf "$bin/reshard_perf")
plan=(--plan "$bin/reshard_plan")
numpy=/usr/bin/python3  # Debian's, which has it
for ((round = 0; SECONDS < end; ++round, ++seed)); do
  heading "round $round, seed $seed"
  ctest --preset dev -j "$(nproc)" --label-regex '^unit$' --quiet
  python3 -B tests/multi/run_chaos.py --chaos "$bin/chaos" --count 100 --seed "$seed"
  for ways in direct relayed hopeless; do "$bin/deadlines" 8 1000 $((seed % 1000000)) "$ways"; done
  python3 -B tests/multi/run_slow_link.py --program "$bin/slow_link" || [ $? -eq 77 ]
  python3 -B tests/multi/run_random.py "${perf[@]}" --transport ucx --seed "$seed" --count 50 --max-ranks 8
  python3 -B tests/multi/run_random.py "${perf[@]}" --transport ucx --seed "$seed" --count 50 --max-ranks 8 --machines
  python3 -B tests/multi/run_random.py "${perf[@]}" "${plan[@]}" --transport local --seed "$seed" --count 200 --machines
  python3 -B tests/multi/run_invalid.py "${perf[@]}" --fuzz 1000 --seed "$seed"
  "$numpy" -B tests/endtoend/run_frameworks.py --library build/dev/lib/libreshard.so --seed "$seed"
done
heading "$round rounds passed, $((SECONDS / 60)) minutes"
