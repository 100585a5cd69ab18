#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Counts the instructions of reshard_plan under callgrind and compares them with the counts that are kept.

usage: instructions.py RESHARD_PLAN [--update]
"""
import argparse
import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

KEPT = pathlib.Path(__file__).resolve().parents[1] / "results" / "planner_instructions.json"
JOBS = {
    "deepseek_hgx": ["--model", "DeepSeek-V3", "--from", "megatron:pp=16,dp=16,ep=16", "--to", "vllm:tp=32,replicas=8",
                     "--cluster", "hgx-h100"],
    "kimi_two_open": ["--model", "Kimi-K2-Instruct", "--from", "megatron:tp=8,pp=8,dp=4,ep=32", "--to",
                      "vllm:tp=32,ep=32,replicas=4", "--cluster", "hgx-h100", "--open-groups", "2"],
    "llama405_fsdp": ["--model", "Meta-Llama-3.1-405B", "--from", "fsdp:shard=2048", "--to", "vllm:tp=16,replicas=64"],
}
NOTABLE = 0.02  # a smaller change is as likely one of the standard library


def count(plan, job):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(plan), *job]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(encoding="utf-8"), re.M).group(1))


def build_of(plan):
    return subprocess.run([str(plan), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--update", action="store_true", help="keep the new counts")
    arguments = parser.parse_args()
    kept = json.loads(KEPT.read_text(encoding="utf-8"))["instructions"] if KEPT.exists() else {}
    counts, slower = {}, []
    for key, job in JOBS.items():
        counts[key] = count(arguments.plan, job)
        if key not in kept:
            print(f"  {key:<16} {counts[key]:>16,} instructions, none kept")
            continue
        ratio = counts[key] / kept[key]
        if ratio > 1 + NOTABLE:
            slower.append(key)
        verdict = "slower" if ratio > 1 + NOTABLE else "faster" if ratio < 1 - NOTABLE else "as before"
        print(f"  {key:<16} {counts[key]:>16,} instructions, {kept[key]:>16,} kept: {ratio:.3f}, {verdict}")
    if arguments.update:
        KEPT.parent.mkdir(exist_ok=True)
        report = {"version": 1, "build": build_of(arguments.plan), "processor": platform.machine(),
                  "jobs": {key: " ".join(job) for key, job in JOBS.items()}, "instructions": counts}
        KEPT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if slower and not arguments.update else 0


if __name__ == "__main__":
    sys.exit(main())
