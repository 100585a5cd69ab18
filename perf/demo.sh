#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: perf/demo.sh
#
# Installs what is missing, builds, and shows what reshard does: a dense model whole, a mixture of experts in part, and
# the same mixture of experts on paper for a cluster.
set -euo pipefail
source "$(dirname "$0")/../tests/setup.sh"

install_missing "${build_packages[@]}"
build_preset release reshard_perf reshard_plan
bin=build/release/bin

# show COMMAND...: prints the command, then runs it.
show() {
  printf '$ %s\n\n' "$*"
  "$@"
}

heading "1 of 3: a whole dense model, trainer and server on the same 8 ranks"
cat <<'TEXT'
Qwen3-0.6B lies cut into 8 by FSDP over 8 processes. It is moved into 4 servers of 2 ranks each on the same processes,
over UCX, again and again; every element of every rank is compared with what it must be.

TEXT
show $bin/reshard_perf --model Qwen3-0.6B --from fsdp:shard=8 --to vllm:tp=2,replicas=4 --colocated

heading "2 of 3: a mixture of experts, from 8 ranks to 4 others"
cat <<'TEXT'
Two layers of Qwen3-30B-A3B: Megatron with tensor, pipeline and expert parallelism on 8 processes, vLLM with expert
parallelism on 4 other processes, where 16 of the 128 experts lie twice.

TEXT
show $bin/reshard_perf --model Qwen3-30B-A3B --layers 2 --from megatron:tp=2,pp=2,dp=2,ep=4 \
  --to vllm:tp=2,ep=4,redundant=16

heading "3 of 3: the same model, all layers, from 256 GPUs to 128 others, on paper"
cat <<'TEXT'
The plan is a value that needs no cluster: the trainer grown to 256 ranks, the server to 32 replicas of 4. What every
rank would send and receive, in how many messages, against what it cannot avoid.

TEXT
show $bin/reshard_plan --model Qwen3-30B-A3B --from megatron:tp=2,pp=2,dp=64,ep=4 \
  --to vllm:tp=2,ep=4,redundant=16,replicas=32
