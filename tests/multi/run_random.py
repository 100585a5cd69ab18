# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Random specs through reshard_perf, every element proved by the oracle.

Case K of seed N is always the same; --only K runs it alone. A failing case is shrunk and kept in a printed folder.
"""

import argparse
import json
import os
import random
import shutil
import sys

import shrink
import tool

import random_spec

CLUSTERS = ["host:ranks=1", "host:ranks=2", "host:ranks=3", "host:ranks=4,nics=2", "hgx-h100", "dgx-a100:isolated=1",
            "gb200-nvl72:domain=1", "gb200-nvl72:domain=1,isolated=1"]
STAGING = ["16", "17", "24", "33", "64", "100", "256", "1000", "4K", "64K", "1M", "64M"]


def case_of(args, number):
    """(spec, options, seed of the loaded values or None)."""
    key = "%s:%d" % (args.seed, number)
    rng = random.Random(key)
    raw = random_spec.generate(key, args.max_ranks, args.max_elements or rng.choice([300, 3000, 3000, 20000]))
    options = ["--transport", args.transport, "--staging", args.staging or rng.choice(STAGING)]
    alloc = rng.choice(["heap", "default"])
    if args.alloc == "heap" or (args.alloc is None and alloc == "heap"):
        options += ["--alloc", "heap"]
    if args.memory == "cuda":
        options += ["--memory", "cuda"]
        if args.threads:
            options += ["--threads"]
        os.environ["CUDA_DOUBLE_SEED"] = str(rng.randrange(1, 10**6))  # the order in which its streams work
    load_seed = key if rng.random() < 0.3 else None
    if args.machines:
        options += ["--cluster", rng.choice(CLUSTERS), "--order", rng.choice(["fixed", "rotated", "any"]),
                    "--open-groups", str(rng.choice([0, 0, 1, 2, 5]))]
    return raw, options, load_seed


def run(args, raw, options, folder, load_seed):
    report = tool.check_run(args.perf, raw, options, folder, load_seed)
    if args.plan:
        tool.check_plan(args.plan, report, folder, options[options.index("--staging"):])


def keep_failure(args, raw, options, load_seed, folder, error):
    print("FAILED: %s" % error, flush=True)

    def fails(smaller):
        try:
            run(args, smaller, options, folder, load_seed)
            return False
        except tool.ToolFailure:
            return True

    small = shrink.shrink(raw, fails, args.shrink_seconds)
    try:
        run(args, small, options, folder, load_seed)
        print("the shrunk case passed this time: it fails only sometimes")
    except tool.ToolFailure as again:
        print("shrunk to:\n%s\n%s" % (json.dumps(small), again))
    with open(os.path.join(folder, "original.json"), "w", encoding="utf-8") as file:
        json.dump(raw, file, indent=1)
    print("kept in %s (spec.json, command.txt, original.json)" % folder, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    parser.add_argument("--plan", help="reshard_plan, whose report must say the same")
    parser.add_argument("--seed", default=None, help="drawn and printed when not given")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument("--transport", choices=["local", "ucx", "nccl", "auto"], default="local")
    parser.add_argument("--threads", action="store_true", help="ranks are threads, also with nccl")
    parser.add_argument("--machines", action="store_true", help="plan for random machines: relays, orders of groups")
    parser.add_argument("--max-ranks", type=int, default=16)
    parser.add_argument("--max-elements", type=int, default=None, help="of one tensor; drawn per case when not given")
    parser.add_argument("--staging", default=None, help="drawn per case when not given")
    parser.add_argument("--alloc", choices=["heap", "default"], default=None, help="drawn per case when not given")
    parser.add_argument("--memory", choices=["host", "cuda"], default="host")
    parser.add_argument("--shrink-seconds", type=float, default=60)
    args = parser.parse_args()
    if args.seed is None:
        args.seed = str(random.SystemRandom().randrange(10**9))
    print("seed %s" % args.seed, flush=True)
    folder = tool.scratch("random")
    for number in [args.only] if args.only is not None else range(args.count):
        raw, options, load_seed = case_of(args, number)
        try:
            run(args, raw, options, folder, load_seed)
        except tool.ToolFailure as error:
            print("seed %s case %d: %s" % (args.seed, number, " ".join(options)))
            keep_failure(args, raw, options, load_seed, folder, error)
            return 1
    shutil.rmtree(folder)
    print("%d cases right" % (1 if args.only is not None else args.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
