#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Measures the figures that the project is held to and prints each beside its goal.

usage: measure.py BIN_DIR [--json FILE] [--only PART]

Machines are shared and drift, so two things are compared only by the median of the ratios of runs that alternate.
A missed goal is printed, not an error; a wrong element or a tool that fails is.
"""
import argparse
import json
import operator
import platform
import statistics
import subprocess

import clusters
import kernel_code
import machine_figures
import megatron_figures
import near_limit
import python_figures
import rebind_figures
import recording_figures
import reload_figures
from tools import MODELS, SPECS, Tools

ROUNDS = 7
COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt}


class Figures:
    def __init__(self):
        self.rows = []

    def add(self, key, text, value, unit="", compare=None, goal=None, **details):
        """One figure; without a goal it only informs."""
        met = None if goal is None else COMPARE[compare](value, goal)
        self.rows.append({"key": key, "text": text, "value": value, "unit": unit, "compare": compare, "goal": goal,
                          "met": met, **details})
        target = "" if goal is None else f"goal {compare} {goal:g}{unit}: {'met' if met else 'MISSED'}"
        print(f"  {text:<72} {value:>10.4g}{unit:<4} {target}", flush=True)


def alternate(first, second, rounds=ROUNDS):
    """Results of A B A B ... as two lists."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median_seconds(report):
    return report["run_seconds"]["median"]


def host_copies(tools, figures):
    print("\nHost copies: 8192 x 8192 fp32, 2x2 blocks of 256 to 4x1 blocks of 1024, 4 ranks")
    spec = SPECS / "blocks_8192.json"

    def ours():
        return tools.live("--spec", spec, "-w", "2", "-n", "10", "--check", "1")

    if not tools.has("bench_alltoallw"):
        print("  MPI is not installed: no baseline")
        figures.add("host_copies.run_ms", "one run", median_seconds(ours()) * 1e3, " ms")
        return
    mine, theirs = alternate(ours, lambda: tools.alltoallw(10, 2))
    ratios = [median_seconds(a) / median_seconds(b) for a, b in zip(mine, theirs)]
    with_plan = [(a["planning_seconds"] + median_seconds(a)) / median_seconds(b) for a, b in zip(mine, theirs)]
    figures.add("host_copies.run_ms", "one run", statistics.median(map(median_seconds, mine)) * 1e3, " ms")
    figures.add("host_copies.alltoallw_ms", "MPI_Alltoallw with subarray datatypes",
                statistics.median(map(median_seconds, theirs)) * 1e3, " ms")
    figures.add("host_copies.ratio", "run / MPI_Alltoallw", statistics.median(ratios), "", "<=", 0.9, samples=ratios)
    figures.add("host_copies.ratio_with_plan", "(plan + run) / MPI_Alltoallw", statistics.median(with_plan),
                samples=with_plan)


def packing(tools, figures):
    print("\nCopyList: packing rows against a plain copy of the same bytes with the same kind of stores, lowest setting")
    report = tools.run("bench_copy", "--filter", "pack_rows")
    lengths = sorted(int(key.removeprefix("pack_rows_")) for key in report if key.startswith("pack_rows_"))
    for length in lengths:
        compare, goal = (">=", 0.9) if length >= 512 else (None, None)
        figures.add(f"packing.{length}", f"rows of {length} B", report[f"pack_rows_{length}"]["ratio"], "", compare, goal)


def planning(tools, figures):
    print("\nPlanning on paper: the whole plan, one thread")
    jobs = [
        ("deepseek_v3", ("DeepSeek-V3", "megatron:pp=16,dp=16,ep=16", "vllm:tp=32,replicas=8"), 0.1, None),
        ("kimi_k2", ("Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=32,ep=32", "vllm:tp=8,ep=32,replicas=64"), 1.0, 256),
        ("qwen235_fsdp", ("Qwen3-235B-A22B", "fsdp:shard=2048", "vllm:tp=8,ep=32,replicas=64"), 1.0, 256),
        ("llama405_fsdp", ("Meta-Llama-3.1-405B", "fsdp:shard=2048", "vllm:tp=16,replicas=64"), 1.0, 256),
        ("deepseek_fsdp", ("DeepSeek-V3", "fsdp:shard=2048", "vllm:tp=32,replicas=64"), 1.0, 256),
    ]
    for key, (model, src, dst), goal_seconds, goal_megabytes in jobs:
        rounds = 3 if key.endswith("_fsdp") else ROUNDS  # seconds each: the first goals are milliseconds
        reports = [tools.paper("--model", model, "--from", src, "--to", dst) for _ in range(rounds)]
        seconds = [report["planning_seconds"] for report in reports]
        last = reports[-1]
        text = f"{model}, {last['ranks']} ranks, {last['bundles']} bundles, {last['routes']} routes"
        figures.add(f"planning.{key}.seconds", text, statistics.median(seconds), " s", "<", goal_seconds,
                    samples=seconds)
        figures.add(f"planning.{key}.layout_seconds", f"{model}, both layouts from the config before that",
                    statistics.median(report["layout_seconds"] for report in reports), " s")
        megabytes = max(report["peak_rss_bytes"] for report in reports) / 1e6
        figures.add(f"planning.{key}.peak_mb", f"{model}, most memory resident", megabytes, " MB",
                    "<" if goal_megabytes else None, goal_megabytes)


def programs(tools, figures):
    print("\nOne rank's program of a plan: built in one thread, memory that it makes resident at most")
    model, src, dst = "Kimi-K2-Instruct", "fsdp:shard=1024", "vllm:ep=64,tp=1,replicas=8"
    job = ("--model", MODELS / f"{model}.json", "--from", src, "--to", dst)
    reports = [tools.run("bench_program", *job) for _ in range(ROUNDS)]
    for which, side in enumerate(("source", "destination")):
        of_rank = [report["programs"][which] for report in reports]
        text = f"{model} {src} to {dst}, a {side} rank"
        seconds = [program["seconds"] for program in of_rank]
        figures.add(f"programs.{side}.seconds", text, statistics.median(seconds), " s", "<", 0.3, samples=seconds)
        megabytes = max(program["peak_mb"] for program in of_rank)
        figures.add(f"programs.{side}.peak_mb", f"{text}, memory", megabytes, " MB", "<", 32)


def balance(tools, figures):
    print("\nSenders: max / mean bytes, and how many of them send")
    for key, text in [("dp8_to_dp16", "TP1 x DP8 to TP1 x DP16"), ("tp2dp4_to_tp8", "TP2 x DP4 to TP8")]:
        senders = tools.paper("--spec", SPECS / f"{key}.json")["senders"]
        ratio = senders["max_bytes"] / senders["mean_bytes"]
        figures.add(f"senders.{key}.ratio", f"{text}, max / mean", ratio, "", "<=", 1.05)
        figures.add(f"senders.{key}.count", f"{text}, senders", senders["used"], "", "==", 8)


def pieces(tools, figures):
    print("\nFewest pieces")
    for key, text, goal in [("tp3_to_tp4", "TP3 to TP4", 6), ("tp8_to_tp6", "TP8 to TP6", 12)]:
        messages = tools.paper("--spec", SPECS / f"{key}.json")["messages"]
        figures.add(f"pieces.{key}", f"{text}, messages", messages, "", "==", goal)


def staging(tools, figures):
    print("\nStaging: Qwen3-0.6B, 8 layers, fsdp:shard=8 to vllm:tp=2,replicas=4 colocated, buffers from the heap")
    job = ("--model", "Qwen3-0.6B", "--layers", "8", "--from", "fsdp:shard=8", "--to", "vllm:tp=2,replicas=4",
           "--colocated", "--alloc", "heap", "-w", "1", "-n", "5")
    bounded, unbounded = alternate(lambda: tools.live(*job, "--staging", "64M"),
                                   lambda: tools.live(*job, "--staging", "4G"))
    speeds = [median_seconds(b) / median_seconds(a) for a, b in zip(bounded, unbounded)]
    used = max(report["staging_bytes"] for report in bounded) / 2**20
    figures.add("staging.used_mib", "staging of a rank, counted, with a budget of 64 MiB", used, " MiB", "<=", 64)
    figures.add("staging.speed", "speed at 64 MiB / speed at 4 GiB", statistics.median(speeds), "", ">=", 0.95,
                samples=speeds)


def stages(tools, figures):
    print("\nStages of a run on streams, on paper: the rank with most operations")
    relays = ("--cluster", "hgx-h100", "--order", "rotated", "--open-groups", "2")
    jobs = [
        ("disjoint", "DeepSeek-V3", "megatron:pp=4,dp=8,ep=8", "vllm:tp=32", ()),
        ("colocated", "DeepSeek-V3", "megatron:pp=4,dp=16,ep=16", "vllm:tp=64", ("--colocated",)),
        ("relays", "DeepSeek-V3", "megatron:pp=4,dp=8,ep=8", "vllm:tp=8,replicas=4", relays),
        ("kimi_k2", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=32,ep=32", "vllm:tp=8,ep=32,replicas=64", ()),
    ]
    for key, model, src, dst, options in jobs:
        for of in tools.paper("--model", model, "--from", src, "--to", dst, *options)["streams"]:
            busiest = of["ranks"][0]
            name = f"stages.{key}.{of['nccl_version']}"
            text = f"{model} {key}, NCCL {of['nccl_version']}"
            figures.add(f"{name}.operations", f"{text}: operations / windows",
                        busiest["operations"] / busiest["windows"], "", "<=", 1)
            figures.add(f"{name}.groups", f"{text}: operations / group", busiest["operations"] / busiest["groups"])
            figures.add(f"{name}.rounds", f"{text}: stages / rounds of the plan", busiest["stages"] / busiest["rounds"])
            figures.add(f"{name}.launches", f"{text}: most launches of copies in a stage",
                        busiest["most_launches_per_stage"], "", "<=", 2)
            figures.add(f"{name}.staging", f"{text}: staging / budget",
                        max(rank["staging_bytes"] for rank in of["ranks"]) / of["staging_budget_bytes"], "", "<=", 1)


def machines(tools, figures):
    machine_figures.near_the_limit(tools, figures)
    machine_figures.sizes(tools, figures)
    machine_figures.planning(tools, figures, ROUNDS)


def reload(tools, figures):
    reload_figures.measure(tools, figures)
    rebind_figures.measure(reload_figures.Library(tools.bin_dir), tools.bin_dir, figures)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def kernels(tools, figures):
    print("\nDevice code as compiled, per architecture; no GPU took part")
    build = tools.bin_dir.resolve().parent
    reason = kernel_code.add_figures(figures, build / kernel_code.OBJECT, build / "kernel_code")
    if reason:
        print(f"  left out: {reason}")
    print("\nThe same kernels run as plain C++: sectors of 32 bytes that are touched, and tables")
    command = [str(tools.bin_dir / "kernels_cuda_test"), "--gtest_filter=SectorsTest.*:*TheTable*:*TheShare*"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("[figure] "):
            row = json.loads(line.removeprefix("[figure] "))
            compare, goal = ("<=", row["most"]) if row["most"] else (None, None)
            figures.add(row["key"], row["text"], row["value"], row["unit"], compare, goal)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    parser.add_argument("--only", metavar="PART", help="one part, e.g. planning or machines")
    arguments = parser.parse_args()
    tools, figures = Tools(arguments.bin_dir), Figures()
    print(f"Figures on {processor()}; medians of {ROUNDS} rounds")
    parts = (host_copies, packing, planning, programs, balance, pieces, staging, stages, machines, near_limit.near_limit,
             clusters.clusters, machine_figures.large_plans, reload, kernels, megatron_figures.megatron,
             python_figures.python, recording_figures.recording)
    for measure in parts:
        if arguments.only in (None, measure.__name__):
            measure(tools, figures)
    missed = [row["key"] for row in figures.rows if row["met"] is False]
    num_met = sum(row["met"] is True for row in figures.rows)
    print(f"\n{num_met} goals met, {len(missed)} missed: {', '.join(missed) or '-'}")
    if arguments.json:
        report = {"version": 1, "processor": processor(), "rounds": ROUNDS, "figures": figures.rows}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
