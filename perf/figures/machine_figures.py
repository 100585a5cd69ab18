# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Figures of plans for a machine: how near the limit, how well the estimate foretells, how large a job may be."""
import json
import pathlib
import random
import statistics
import tempfile

# key, model, source, destination, further options
LAYOUTS = [
    ("deepseek_tp32", "DeepSeek-V3", "megatron:pp=16,dp=16,ep=16", "vllm:tp=32,replicas=8"),
    ("deepseek_ep64", "DeepSeek-V3", "megatron:pp=16,dp=16,ep=16", "vllm:tp=8,ep=64,replicas=2"),
    ("qwen235_ep32", "Qwen3-235B-A22B", "megatron:tp=4,pp=4,dp=4,ep=16", "vllm:tp=32,ep=32,replicas=2"),
    ("qwen235_ep16", "Qwen3-235B-A22B", "megatron:tp=4,pp=2,dp=2,ep=8", "vllm:tp=1,ep=16"),
    ("kimi_free", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32", "vllm:tp=32,ep=32,replicas=4"),
    ("kimi_two_open", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32", "vllm:tp=32,ep=32,replicas=4",
     "--order", "fixed", "--open-groups", "2"),
    ("qwen30_tp8", "Qwen3-30B-A3B", "megatron:pp=2,dp=8,ep=8", "vllm:tp=8,replicas=2"),
    ("llama70_tp8", "Meta-Llama-3.1-70B", "megatron:tp=8,pp=4,dp=32", "vllm:tp=8,replicas=64"),
]

# What a transfer of about a terabyte, and one of 61 GB, costs when trainers are more, as many, or fewer than servers:
# key, what is between which, cluster, model, source, destination
SIZES = [
    ("a", "2048 trainers to 64 servers of 32", "hgx-h100", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=32,ep=32",
     "vllm:tp=32,ep=32,replicas=64"),
    ("b", "256 trainers to 64 servers of 32", "hgx-h100", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32",
     "vllm:tp=32,ep=32,replicas=64"),
    ("c", "256 trainers to 8 servers of 16", "hgx-h100", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=4,ep=32",
     "vllm:tp=16,ep=16,replicas=8"),
    ("d", "1152 trainers to 36 servers of 32, racks of 72", "gb200-nvl72", "Kimi-K2-Instruct",
     "megatron:tp=8,pp=9,dp=16,ep=32", "vllm:tp=32,ep=32,replicas=36"),
    ("e", "512 trainers to 112 servers of 32", "hgx-h100", "Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=8,ep=32",
     "vllm:tp=32,ep=32,replicas=112"),
    ("f", "61 GB, 16 trainers to 4 servers of 4", "hgx-h100", "Qwen3-30B-A3B", "megatron:tp=4,dp=4,ep=8",
     "vllm:tp=4,replicas=4"),
    ("g", "61 GB, 128 trainers to 128 servers of 1", "hgx-h100", "Qwen3-30B-A3B", "megatron:tp=4,dp=32,ep=8",
     "vllm:tp=1,replicas=128"),
]

# Of the layouts above: on regular machines plans reach their bounds, and shall go on to do so. Two open groups make one
# wait for senders that have nothing to send in their turn.
OVER_BOUND = 1.01
OVER_BOUND_IN_ORDER = 1.03
OVER_BOUND_IRREGULAR = 1.03

OVERSUBSCRIBED = "hgx-h100:leaf=8,oversub=2"

NUM_EXPERTS = 384       # of Kimi-K2
NUM_EXPERT_LAYERS = 60  # all but the first


def plan(tools, model, src, dst, *options, cluster="hgx-h100"):
    return tools.paper("--model", model, "--from", src, "--to", dst, "--cluster", cluster, *options)


def over_bound(report):
    return report["estimate_seconds"] / report["bound_seconds"]


def other_ways(report):
    return {way["name"]: way["over_estimate"] for way in report["comparison"]}


def near_the_limit(tools, figures):
    print("\nPlans for hgx-h100: estimate / lower bound, simulation / estimate")
    for key, model, src, dst, *options in LAYOUTS:
        report = plan(tools, model, src, dst, "--simulate", *options)
        text = f"{model}, {report['ranks']} ranks" + (", 2 groups open" if options else "")
        estimate, simulated = report["estimate_seconds"], report["simulated_seconds"]
        goal = OVER_BOUND_IN_ORDER if options else OVER_BOUND
        figures.add(f"machine.{key}.over_bound", f"{text}, estimate / bound", over_bound(report), "", "<=", goal,
                    job=report["job"], estimate_seconds=estimate, bound_seconds=report["bound_seconds"],
                    bound_name=report["bound_name"], resource=report["binding_resource"])
        figures.add(f"machine.{key}.simulated", f"{text}, |simulated / estimate - 1|", abs(simulated / estimate - 1),
                    "", "<=", 0.05, simulated_seconds=simulated)
        figures.add(f"machine.{key}.simulated_over_bound", f"{text}, simulated / bound",
                    simulated / report["bound_seconds"], "", ">=", 1.0)
        for name, times in other_ways(report).items():
            figures.add(f"machine.{key}.{name.split()[0].strip(',')}", f"{text}, {name}", times, " x")


def sizes(tools, figures):
    print("\nPlans from few and many trainers: estimate / lower bound, and unicast / estimate")
    for key, text, cluster, model, src, dst in SIZES:
        report = plan(tools, model, src, dst, cluster=cluster)
        unicast = next(times for name, times in other_ways(report).items() if name.startswith("unicast"))
        figures.add(f"sizes.{key}.over_bound", f"{text}, estimate / bound", over_bound(report), "", "<=", OVER_BOUND,
                    job=report["job"], cluster=cluster, estimate_seconds=report["estimate_seconds"])
        figures.add(f"sizes.{key}.unicast", f"{text}, unicast", unicast, " x")


def permuted_experts(folder, num_layers=NUM_EXPERT_LAYERS):
    """A file that gives every slot an expert of its own, in an order without any pattern, another in each layer; with
    num_layers 1 the same in all."""
    rng = random.Random(1)
    table = [rng.sample(range(NUM_EXPERTS), NUM_EXPERTS) for _ in range(num_layers)]
    path = pathlib.Path(folder) / f"experts_{num_layers}.json"
    path.write_text(json.dumps({"physical_to_logical": table}), encoding="utf-8")
    return path


def add_planning(figures, key, text, reports, goal_seconds, goal_megabytes):
    seconds = [report["planning_seconds"] + report["estimating_seconds"] for report in reports]
    figures.add(f"machine_planning.{key}.seconds", text, statistics.median(seconds), " s", "<=", goal_seconds,
                samples=seconds)
    megabytes = max(report["peak_rss_bytes"] for report in reports) / 1e6
    figures.add(f"machine_planning.{key}.peak_mb", f"{text}, most memory resident", megabytes, " MB",
                "<=" if goal_megabytes else None, goal_megabytes)
    # A poor plan is made quickly.
    figures.add(f"machine_planning.{key}.over_bound", f"{text}, estimate / bound", over_bound(reports[0]), "", "<=",
                OVER_BOUND_IRREGULAR)


def planning(tools, figures, rounds):
    print("\nPlanning and estimating for a machine, one thread")
    src, dst = "megatron:tp=8,pp=8,dp=32,ep=32", "vllm:tp=8,ep=32,replicas=64"
    with tempfile.TemporaryDirectory() as folder:
        experts, one_table = permuted_experts(folder), permuted_experts(folder, 1)
        jobs = [
            ("kimi", "experts in order", "hgx-h100", src, dst, 0.5, 128),
            ("kimi_permuted", "permuted experts, many tables", "hgx-h100", src, f"{dst},eplb={experts}", 0.5, 128),
            ("kimi_one_table", "permuted experts, one table", "hgx-h100", src, f"{dst},eplb={one_table}", 0.5, 128),
            ("kimi_oversub", "leaves oversubscribed twice", OVERSUBSCRIBED, src, dst, 1.5, None),
            ("kimi_16384", "experts in order", "hgx-h100", "megatron:tp=8,pp=8,dp=256,ep=32",
             "vllm:tp=8,ep=32,replicas=512", 10.0, None),
        ]
        for key, what, cluster, src_text, dst_text, *goals in jobs:
            reports = [plan(tools, "Kimi-K2-Instruct", src_text, dst_text, "--streams", "0", cluster=cluster)
                       for _ in range(rounds)]
            add_planning(figures, key, f"Kimi-K2, {reports[0]['ranks']} ranks, {what}", reports, *goals)


def large_plans(tools, figures):
    """65,536 trainers to 65,536 ranks of servers; a part of its own, as it needs a machine with memory to spare."""
    print("\nPlanning and estimating for 131,072 ranks, one thread, once")
    src, dst = "megatron:tp=8,pp=8,dp=1024,ep=32", "vllm:tp=8,ep=32,replicas=2048"
    for key, what, cluster in [("kimi_65536", "experts in order", "hgx-h100"),
                               ("kimi_65536_oversub", "leaves oversubscribed twice", OVERSUBSCRIBED)]:
        report = plan(tools, "Kimi-K2-Instruct", src, dst, "--streams", "0", cluster=cluster)
        add_planning(figures, key, f"Kimi-K2, {report['ranks']} ranks, {what}", [report], 10.0, 400)
