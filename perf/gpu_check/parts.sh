# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# The parts of perf/gpu_check.sh. Each prints what it found; lines that are JSON objects are its results. Sourced with
# $package (bin/, lib/, share/) and $is_dry set.

skip() {
  echo "skipped: $*"
  exit 77
}

# have COMMAND: on the path, or where the toolkit puts it.
PATH=$PATH:/usr/local/cuda/bin
have() { command -v "$1" >/dev/null; }

# run PROGRAM ARGUMENT...: one of the package, or in a dry run one of this build, on the double.
run() {
  local program=$1
  shift
  if [ "$is_dry" = true ]; then
    # What links no library has a build of its own on the double.
    [ ! -x "$DRY_BIN/on_double/$program" ] || program=on_double/$program
    # Programs that call the CUDA runtime themselves have the double in them.
    [ ! -x "$DRY_BIN/on_double/$program" ] || program=on_double/$program
    LD_LIBRARY_PATH=$DRY_LIB "$DRY_BIN/$program" "$@"
  else
    LD_LIBRARY_PATH=$package/lib "$package/bin/$program" "$@"
  fi
}

# on_gpu VALUE DRY_VALUE: the first, or in a dry run the second, which is smaller.
on_gpu() { [ "$is_dry" = true ] && echo "$2" || echo "$1"; }

library() { on_gpu "$package/lib/libreshard.so.0" "$DRY_LIB/libreshard.so.0"; }

part_versions() {
  [ "$is_dry" = true ] || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv || return 1
  run reshard_perf --version
  run reshard_perf --spec perf/specs/tp3_to_tp4.json --memory cuda --runs 1 --patterns 0
}

# Every kernel against the slow one, all misalignments, poisoned outputs.
part_fuzz() { run kernel_fuzz "$(on_gpu 30 2)"; }

part_sanitizers() {
  [ "$is_dry" = false ] || skip "the kernels of a dry run are checked by the sanitizers of g++"
  have compute-sanitizer || skip "no compute-sanitizer"
  local tool
  for tool in memcheck racecheck; do
    LD_LIBRARY_PATH=$package/lib timeout 28 compute-sanitizer --tool "$tool" --error-exitcode 9 "$package/bin/kernel_fuzz" 1 || return 1
    echo "{\"tool\": \"$tool\", \"errors\": 0}"
  done
}

part_kernels() {
  [ "$is_dry" = false ] || skip "speed is not to be had of a double"
  run bench_kernels --benchmark_format=json >"$package/bench.json" || return 1
  tr -d '\n' <"$package/bench.json" && echo
}

# Sectors and bytes of DRAM as the device counts them, to be set beside those that the unit tests count.
part_counters() {
  [ "$is_dry" = false ] || skip "no counters in a double"
  have ncu || skip "no ncu"
  local metrics=l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum,l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum
  metrics+=,dram__bytes_read.sum,dram__bytes_write.sum,gpu__time_duration.sum
  LD_LIBRARY_PATH=$package/lib ncu --clock-control none --csv --metrics "$metrics" --launch-count 60 \
    "$package/bin/bench_kernels" --benchmark_min_time=0.01 || return 1
}

# One process a rank, all on the first GPU: memory mapped by CUDA IPC and by descriptors, messages of
# UCX, ranks that die.
part_processes() {
  local ranks job
  run map_peers || return 1
  for ranks in 2 4; do
    job=(--model perf/models/Qwen3-0.6B.json --layers 8 --from "fsdp:shard=$ranks" --to "vllm:tp=$ranks" --colocated)
    [ "$is_dry" = false ] || job=(--spec perf/specs/tp8_to_tp6.json)
    run reshard_perf "${job[@]}" --memory cuda --runs 3 --warmups 1 --patterns 0 --check 1 --json "$out_json" || return 1
    json_line "$out_json"
  done
  local phase
  for phase in after_bind in_run; do chaos kill "$phase" || return 1; done
  chaos stop in_run
}

# chaos ACTION PHASE: three ranks on device memory, the second comes to harm, the others must recover.
chaos() {
  local folder rank pids=() problems=0
  folder=$(mktemp -d)
  for rank in 0 1 2; do
    run chaos "$rank" 3 "$folder" 1 "$1" "$2" device direct &
    pids+=($!)
  done
  wait "${pids[0]}" || problems=1
  wait "${pids[2]}" || problems=1
  kill -KILL "${pids[1]}" 2>/dev/null
  rm -rf "$folder"
  echo "{\"harm\": \"$1\", \"phase\": \"$2\", \"problems\": $problems}"
  return "$problems"
}

# Whole reshards: the speed on one GPU, and every element against formulas of what the frameworks hold.
part_reshard() {
  local job=(--model perf/models/Qwen3-30B-A3B.json --layers 2 --from megatron:tp=2,dp=2,ep=4 --to vllm:tp=4 --colocated --runs 20)
  [ "$is_dry" = false ] || job=(--spec perf/specs/dp8_to_dp16.json --runs 1)
  run reshard_perf "${job[@]}" --memory cuda --warmups 1 --patterns 0 --check 1 --json "$out_json" || return 1
  json_line "$out_json"
  local python
  for python in python3 /usr/bin/python3; do "$python" -c 'import numpy' 2>/dev/null && break; done
  "$python" -c 'import numpy' 2>/dev/null || skip "no Python with numpy for the frameworks' formulas; the rest passed"
  LD_LIBRARY_PATH=$(dirname "$(library)") "$python" -B tests/endtoend/run_frameworks.py --library "$(library)" --memory cuda \
    --most "$(on_gpu 40 2)"
}

# nccl_setting: prepares NCCL with several ranks on one device, for the programs that follow.
nccl_setting() {
  export NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_MAX_CTAS=8 RESHARD_NCCL_LIBRARY=$package/nccl/libnccl.so.2
  if [ "$is_dry" = true ]; then
    export RESHARD_NCCL_LIBRARY=$DRY_LIB/libnccl.so.2 CUDA_DOUBLE_DEVICES=1 NCCL_DOUBLE_VERSION=23203
    [ -e "$RESHARD_NCCL_LIBRARY" ] || skip "this build has no double of NCCL"
    return
  fi
  [ -e "$RESHARD_NCCL_LIBRARY.gz" ] || [ -e "$RESHARD_NCCL_LIBRARY" ] || skip "packed without NCCL"
  [ -e "$RESHARD_NCCL_LIBRARY" ] || gzip -dk "$RESHARD_NCCL_LIBRARY.gz"
}

has_stream_driver() { [ "$is_dry" = false ] || [ -e src/exec/stream_driver.cc ] || skip "no driver works in streams yet"; }

# Groups of sends and receives, small and large, and one that is given up. Ranks are threads.
part_nccl() {
  nccl_setting
  run nccl_groups "$(on_gpu 1024 256)"
}

# A whole reshard in streams, with NCCL between ranks; what maps is read in place all the same.
part_nccl_reshard() {
  nccl_setting
  has_stream_driver
  local job=(--model perf/models/Qwen3-30B-A3B.json --layers 2 --from megatron:tp=2,dp=2,ep=4 --to vllm:tp=4 --colocated --runs 10)
  [ "$is_dry" = false ] || job=(--spec perf/specs/tp3_to_tp4.json --runs 1)
  run reshard_perf "${job[@]}" --transport nccl --threads --memory cuda --warmups 1 --patterns 0 --check 1 --json "$out_json" || return 1
  json_line "$out_json"
}

# The caller's streams before and behind a run; then the same over NCCL, begun by the host and out of a graph.
part_order() {
  run stream_order "$(on_gpu 100 5)" || return 1
  nccl_setting
  has_stream_driver
  run stream_order "$(on_gpu 100 5)" nccl && run stream_order "$(on_gpu 100 5)" graph
}

# A report of a tool as one line.
out_json=$(mktemp -u)
json_line() { tr -d '\n' <"$1" && echo; }
