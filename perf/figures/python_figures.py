# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The Python package beside what torch offers for the same move, in the environment of the frameworks."""
import json
import os
import statistics
import subprocess

from tools import ROOT

STAGING_BUDGET_MIB = 64


def python(tools, figures):
    interpreter = os.path.join(os.environ.get("RESHARD_ORACLES", ROOT / "build" / "oracles"), "bin", "python")
    print("\nFrom Python: 1 GB in BF16, FSDP over 4 to TP 2 in 2 replicas, 4 processes, torch tensors of the host, gloo")
    if not os.path.exists(interpreter):
        print("  left out: no environment with torch; tests/families/environment.sh makes it")
        return
    library = tools.bin_dir.resolve().parent / "lib" / "libreshard.so"
    environment = dict(os.environ, RESHARD_LIBRARY=str(library), PYTHONPATH=str(ROOT / "src" / "python"))
    program = ROOT / "perf" / "figures" / "torch_moves.py"
    done = subprocess.run([interpreter, "-B", program, "--rounds", "5"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    add(json.loads(done.stdout.splitlines()[-1]), figures)


def add(report, figures):
    seconds = report["seconds"]
    text = f"{report['bytes'] / 1e9:.2f} GB, {report['tensors']} tensors"
    figures.add("python.run_ms", f"{text}: a bound run", statistics.median(seconds["reshard"]) * 1e3, " ms")
    figures.add("python.bind_ms", f"{text}: describing, exchanging, planning, binding", report["bind_seconds"] * 1e3, " ms")
    for way in ("full_tensor", "redistribute"):
        ratios = [theirs / ours for theirs, ours in zip(seconds[way], seconds["reshard"])]
        figures.add(f"python.over_{way}", f"time of {way}() / of reshard", statistics.median(ratios), "", ">=", 5, samples=ratios)
    figures.add("python.staging_mib", "memory beside the tensors: staging of a rank", report["staging_bytes"] / 2**20, " MiB",
                "<=", STAGING_BUDGET_MIB)
    growth = report["growth_bytes"]
    figures.add("python.growth_mib", "what a process grows by, at most, to bind and run for the first time",
                (growth["bind"] + growth["reshard"]) / 2**20, " MiB", "<=", STAGING_BUDGET_MIB)
    for way in ("full_tensor", "redistribute"):
        figures.add(f"python.growth_{way}_mib", f"the same of {way}()", growth[way] / 2**20, " MiB")
    for of in report["python"]:
        text = f"Python's part of a run, {of['tensors']} tensors"
        figures.add(f"python.part.{of['tensors']}.{of['groups']}.us", f"{text}, finished only", of["seconds"][0] * 1e6, " us",
                    "<", 50)
        figures.add(f"python.part.{of['tensors']}.{of['groups']}.loop_us", f"{text}, a loop over {of['groups']} groups",
                    of["seconds"][1] * 1e6, " us", "<", 50)
