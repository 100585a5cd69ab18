# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Figures of everyday transfers on machines that are not regular, or where copies stay inside a host or a rack.

Each was many times its lower bound once: copies that one rank sent all, ports that were slower than their neighbours,
uplinks that nobody counted, orders of groups that let replicas take turns. The regular layouts are in machine_figures.
"""
from tools import MACHINES

OVER_BOUND = 1.03
SIMULATED = 1.05
SHORT_OVER_BOUND = 1.10  # of a second and less on 1004 ranks: to fill the tree takes a part of the time
SHORT_SIMULATED = 1.15

QWEN235 = ("Qwen3-235B-A22B", "megatron:pp=4,tp=4", "vllm:tp=8,replicas=16", "hgx-h100")
LLAMA405 = ("Meta-Llama-3.1-405B", "megatron:pp=4,tp=8", "vllm:tp=8,replicas=32", "hgx-h100")
LLAMA70_FSDP = ("Meta-Llama-3.1-70B", "fsdp:shard=256", "vllm:tp=8,replicas=32")
LLAMA70_MEGATRON = ("Meta-Llama-3.1-70B", "megatron:tp=8,pp=2,dp=2", "vllm:tp=8,replicas=8")
QWEN8_LOST = ("Qwen3-8B", "fsdp:shard=8", "vllm:tp=1,replicas=64", "hgx-h100")


def in_order(order, num_open):
    return ("--order", order, "--open-groups", str(num_open))


def quarter(*nics):
    return "hgx-h100:degraded=" + "+".join(f"{nic}/0.25" for nic in nics)


# key, what of it is not regular, model, source, destination, cluster, options
CASES = [
    ("host_of_64", "1 rank of a host to the 63 others", "Qwen3-0.6B", "checkpoint", "vllm:tp=1,replicas=63",
     "host:ranks=64", "--colocated"),
    ("rack_rotated", "rack of 72, rotated, 1 open", "Qwen3-32B", "megatron:tp=4,pp=2", "vllm:tp=4,replicas=16",
     "gb300-nvl72", *in_order("rotated", 1)),
    ("rack_of_72", "1 rank of a rack to 71", "Qwen3-8B", "checkpoint", "vllm:tp=1,replicas=71", "gb200-nvl72"),
    ("stages_rotated_4", "4 stages, rotated, 4 open", *QWEN235, *in_order("rotated", 4)),
    ("stages_any_8", "4 stages, any order, 8 open", *QWEN235, *in_order("any", 8)),
    ("stages_fixed_4", "4 stages, fixed, 4 open", *QWEN235, *in_order("fixed", 4)),
    ("stages_rotated_1", "4 stages, rotated, 1 open", *LLAMA405, *in_order("rotated", 1)),
    ("stages_fixed_1", "4 stages, fixed, 1 open", *LLAMA405, *in_order("fixed", 1)),
    ("pods", "pods oversubscribed 8 times", *LLAMA70_FSDP, "hgx-h200:rails=1,leaf=8,pod=4,oversub2=8"),
    ("leaves", "leaves oversubscribed 4 times", *LLAMA70_FSDP, "hgx-h100:leaf=8,oversub=4"),
    ("one_node", "1 rank of a node to all others", "Meta-Llama-3.1-8B", "checkpoint", "vllm:tp=1,replicas=7", "hgx-h100",
     "--colocated"),
    ("replicas_1000", "1000 replicas, 4 to a host", "Qwen3-0.6B", "fsdp:shard=4", "vllm:tp=1,replicas=1000",
     "host:ranks=4,nics=4"),
    ("quarter_spread", "4 nodes with a NIC at a quarter", *LLAMA70_MEGATRON,
     quarter("n0005/3", "n0007/5", "n0009/1", "n0011/6")),
    ("quarter_node", "a node with 4 NICs at a quarter", *LLAMA70_MEGATRON,
     quarter("n0005/0", "n0005/1", "n0005/2", "n0005/3")),
    ("experts_oversub", "leaves oversubscribed 3 times", "DeepSeek-V3", "megatron:pp=16,dp=16,ep=16",
     "vllm:tp=16,replicas=16", "hgx-h100:rails=1,leaf=8,oversub=3"),
    ("lost_first", "the first replica lost", *QWEN8_LOST, "--lose", "8-8"),
    ("lost_middle", "a replica in the middle lost", *QWEN8_LOST, "--lose", "40-40"),
    ("two_nics", "nodes with a quick and a slow NIC", "Mixtral-8x7B-v0.1", "megatron:tp=2,pp=4,dp=2,ep=4",
     "vllm:tp=8,replicas=9", MACHINES / "two_nics.yaml"),
]
# key, what is lost, job, its ranks
LOSSES = [
    ("lost_replica", "one of 64 replicas", QWEN8_LOST, "40-40"),
    ("lost_node", "a node of 8 replicas", QWEN8_LOST, "40-47"),
    ("lost_server", "one of 64 servers of 32 ranks", ("Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=32,ep=32",
                                                      "vllm:tp=8,ep=32,replicas=64", "hgx-h100"), "2048-2079"),
]
SHORT = {"replicas_1000"}


def plan(tools, model, src, dst, cluster, *options):
    return tools.paper("--model", model, "--from", src, "--to", dst, "--cluster", cluster, "--simulate", "--streams", "0",
                       *options)


def near_limit(tools, figures):
    print("\nEveryday transfers on machines that are not regular: estimate and simulation / lower bound")
    for key, what, model, *job in CASES:
        report = plan(tools, model, *job)
        bound = report["bound_seconds"]
        goals = (SHORT_OVER_BOUND, SHORT_SIMULATED) if key in SHORT else (OVER_BOUND, SIMULATED)
        for kind, goal in zip(("estimate", "simulated"), goals):
            figures.add(f"near_limit.{key}.{kind}", f"{model}, {what}: {kind} / bound", report[f"{kind}_seconds"] / bound,
                        "", "<=", goal, job=report["job"], resource=report["binding_resource"],
                        bound_name=report["bound_name"], seconds=report[f"{kind}_seconds"],
                        planning_seconds=report["planning_seconds"])
    after_loss(tools, figures)


def after_loss(tools, figures):
    """Made again around what stays, and anew."""
    for key, what, job, lost in LOSSES:
        again = plan(tools, *job, "--lose", lost)
        anew = plan(tools, *job, "--lose", lost, "--anew")
        changed = again["replanned"]
        figures.add(f"near_limit.{key}.over_anew", f"{job[0]}, {what} lost: estimate / planned anew",
                    again["estimate_seconds"] / anew["estimate_seconds"], "", "<=", 1.05)
        figures.add(f"near_limit.{key}.changed", f"{job[0]}, {what} lost: bytes on other routes",
                    changed["bytes_changed"] / changed["bytes"] * 100, " %")
