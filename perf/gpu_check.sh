#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/gpu_check.sh --pack              builds, and packs what the check needs into build/gpu_check
#        perf/gpu_check.sh [OUT]               runs the check on this machine's GPU; OUT: build/gpu_check/results
#        perf/gpu_check.sh --dry-run [OUT]     runs it on the tests' double of the CUDA runtime, smaller, for CI
#
# What only a GPU can say. The check is packed where the project is built and runs on a machine that has a driver and
# nothing else; what it lacks besides (a profiler, a sanitizer, Python with numpy) is reported as skipped. Every part has
# a time limit and leaves OUT/PART.json as soon as it has ended; all together take 9 minutes at most. The exit status is
# 0 when no part failed. Kernels of several processes on one GPU take turns, so that the parts "processes" and "reshard"
# give no speed of links.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
package=$PWD/build/gpu_check
source perf/gpu_check/parts.sh

# json_text < FILE: as the inside of a JSON string.
json_text() { tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/ /g' | awk '{printf "%s\\n", $0}'; }

# Lines that are JSON objects, with commas between them.
json_lines() { grep -E '^\{.*\}$' "$1" | paste -sd, -; }

num_failed=0
# part NAME SECONDS: runs part_NAME. Exit status 77 of the part: it was skipped.
part() {
  local name=$1 seconds=$2 log=$out/$1.log status start=$SECONDS
  printf '== %s, at most %s s\n' "$name" "$seconds"
  timeout --kill-after=5 "$seconds" bash -c "source perf/gpu_check/parts.sh; part_$name" >"$log" 2>&1 </dev/null
  case $? in
    0) status=passed ;;
    77) status=skipped ;;
    124 | 137) status="timed out" ;;
    *) status=failed ;;
  esac
  printf '{"part": "%s", "status": "%s", "seconds": %d, "limit_seconds": %d, "is_dry": %s, "results": [%s], "log": "%s"}\n' \
    "$name" "$status" "$((SECONDS - start))" "$seconds" "$is_dry" "$(json_lines "$log")" \
    "$(grep -vE '^\{.*\}$' "$log" | tail -n 40 | json_text)" >"$out/$name.json"
  printf '   %s: %s\n' "$status" "$(tail -n 1 "$log" | cut -c 1-160)"
  rm -f "$log"
  case $status in failed | "timed out") num_failed=$((num_failed + 1)) ;; esac
}

is_dry=false
case ${1:-} in
  --pack)
    exec bash perf/gpu_check/pack.sh "$package"
    ;;
  --dry-run)
    is_dry=true
    shift
    ;;
esac
out=${1:-$package/results}
mkdir -p "$out"
export package is_dry
[ "$is_dry" = true ] || [ -d "$package/bin" ] || bash perf/gpu_check/pack.sh "$package" || exit 1

part versions 10
part fuzz 40
part sanitizers 55
part kernels 100
part counters 40
part processes 80
part reshard 80
part nccl 40
part nccl_reshard 50
part order 40
printf '%s parts failed; results in %s\n' "$num_failed" "$out"
[ "$num_failed" -eq 0 ]
