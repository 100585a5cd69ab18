# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Figures against Megatron-Core's own planner and CopyService, in the environment of tests/families/environment.sh."""
import json
import os
import statistics
import subprocess

from tools import ROOT


def job(tools, mode):
    """What megatron_job.py says, or None, having said why."""
    python = os.path.join(os.environ.get("RESHARD_ORACLES", ROOT / "build" / "oracles"), "bin", "python")
    library = tools.bin_dir.parent / "lib" / "libreshard.so"
    if not os.path.exists(python):
        print(f"  {python} is not there (tests/families/environment.sh makes it): not measured")
        return None
    environment = dict(os.environ, RESHARD_LIBRARY=str(library), PYTHONPATH=str(ROOT / "src" / "python"), OMP_NUM_THREADS="1")
    done = subprocess.run([python, "-B", ROOT / "perf" / "figures" / "megatron_job.py", mode], env=environment,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"megatron_job.py {mode} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def megatron(tools, figures):
    print("\nMegatron-Core's planner and its CopyService over gloo, the same two models, processes and run")
    paper, live = job(tools, "paper"), job(tools, "live")
    if paper is None or live is None:
        return
    # Planner against planner: Megatron's runs on rank 0 for all ranks, reshard's on every rank for itself.
    ratios = [theirs / ours for theirs, ours in paper["plan"]]
    figures.add("megatron.plan_ratio", f"plan for {paper['ranks']} ranks, Megatron's planner / reshard's",
                statistics.median(ratios), "", ">=", 100, samples=paper["plan"])
    figures.add("megatron.plan_ms", "the same, reshard's", 1e3 * statistics.median(ours for _, ours in paper["plan"]), " ms")
    figures.add("megatron.read_ms", "reading one rank's module of 4 layers", 1e3 * paper["read"], " ms")
    ratios = [theirs / ours for theirs, ours in live["plan"]]
    figures.add("megatron.live_plan_ratio", "all before a move (read, tell, plan), 4 ranks, Megatron / reshard",
                statistics.median(ratios), samples=live["plan"])
    figures.add("megatron.bind_ms", "the same and binding, once", 1e3 * live["bind"], " ms")
    ratios = [seconds["megatron"] / seconds["reshard"] for seconds in live["move"]]
    figures.add("megatron.move_ratio", "move 1 GB, 4 ranks, swap_model_weights over gloo / Refit", statistics.median(ratios),
                "", ">=", 3, samples=live["move"])
    ratios = [seconds["megatron"] / seconds["service"] for seconds in live["move"]]
    figures.add("megatron.service_ratio", "the same, over gloo / over reshard's CopyService", statistics.median(ratios), "",
                ">=", 3, samples=ratios)
