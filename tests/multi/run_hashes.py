#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Plans must be equal on every rank, whatever compiled it: hashes of plans, twice, against those kept.

usage: run_hashes.py --plan RESHARD_PLAN [--update]

tests/data/plan_hashes.json was made by a build with another compiler than the one that CI uses (tests/compilers.sh).
After a change of the planner that is meant to change plans: --update.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

KEPT = pathlib.Path(__file__).resolve().parents[1] / "data" / "plan_hashes.json"
JOBS = [
    ("DeepSeek-V3", "megatron:pp=16,dp=16,ep=16", "vllm:tp=32,replicas=8"),
    ("DeepSeek-V3", "megatron:pp=16,dp=16,ep=16", "vllm:tp=32,replicas=8", "--cluster", "hgx-h100:leaf=16,oversub=2"),
    ("Qwen3-235B-A22B", "megatron:tp=4,pp=2,dp=2,ep=8", "vllm:tp=1,ep=16", "--cluster", "hgx-h100"),
    ("Qwen3-235B-A22B", "megatron:tp=4,pp=4,dp=4,ep=16", "vllm:tp=32,ep=32,replicas=2", "--cluster",
     "gb200-nvl72"),
    ("Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32", "vllm:tp=32,ep=32,replicas=4", "--cluster", "hgx-h100",
     "--open-groups", "2"),
    ("Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32", "vllm:tp=32,ep=32,replicas=4", "--cluster", "hgx-h100",
     "--open-groups", "2", "--order", "rotated"),
    ("Qwen3-30B-A3B", "megatron:pp=2,dp=8,ep=8", "vllm:tp=8,replicas=2", "--cluster", "dgx-a100:isolated=1"),
    ("Meta-Llama-3.1-70B", "megatron:tp=8,pp=4,dp=4", "vllm:tp=8,replicas=16", "--cluster", "hgx-h100", "--lose",
     "136-143"),
    ("Qwen3-0.6B", "fsdp:shard=8", "vllm:tp=2,replicas=4", "--colocated", "--cluster", "host:nodes=2,ranks=4"),
    # Routes that are kept once for many receivers: of several senders each, and of receivers that are senders.
    ("Qwen3-30B-A3B", "fsdp:shard=64", "vllm:tp=4,ep=8,replicas=8"),
    ("DeepSeek-V3", "fsdp:shard=32,replicate=4", "vllm:tp=32,replicas=8"),
    ("Qwen3-30B-A3B", "fsdp:shard=64", "vllm:tp=4,ep=8,replicas=8", "--colocated", "--open-groups", "2", "--order",
     "rotated"),
]


def plan_hash(plan, job):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        model, source, destination, *options = job
        command = [plan, "--model", model, "--from", source, "--to", destination, *options, "--json", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return json.loads(report.read_text(encoding="utf-8"))["hash"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", required=True)
    parser.add_argument("--update", action="store_true", help="keep the hashes of this build")
    arguments = parser.parse_args()
    found = {" ".join(job): plan_hash(arguments.plan, job) for job in JOBS}
    if arguments.update:
        KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    wrong = [f"{job}: {value}, kept {kept.get(job)}" for job, value in found.items() if kept.get(job) != value]
    wrong += [f"{' '.join(job)}: another hash the second time"
              for job in JOBS if plan_hash(arguments.plan, job) != found[" ".join(job)]]
    print("\n".join(wrong) or f"{len(found)} plans have the hashes that were kept, twice")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
