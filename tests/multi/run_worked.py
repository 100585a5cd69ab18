# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The worked examples: NAME.json is a spec, NAME.expected.json says by hand which global index lies where.

The hand-written side is compared with the oracle, and what the tool dumps is compared through the oracle, so a
disagreement of any two of the three shows. Without --perf only the first comparison is made.
"""

import argparse
import json
import os
import shutil
import sys

import tool

import spec as spec_module

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worked")


def expand(items):
    """"a:b" is a run of indices, "zeros:n" and null are padding."""
    out = []
    for item in items:
        if isinstance(item, str):
            first, last = item.split(":")
            out += [None] * int(last) if first == "zeros" else range(int(first), int(last))
        else:
            out.append(item)
    return out


def compare_with_oracle(spec, expected):
    tensors = {tensor.name: tensor for tensor in spec.tensors}
    if set(tensors) != set(expected["tensors"]):
        raise tool.ToolFailure("tensors %s, expected %s" % (sorted(tensors), sorted(expected["tensors"])))
    for name, by_rank in expected["tensors"].items():
        side = tensors[name].dst
        if set(map(str, side.ranks)) != set(by_rank):
            raise tool.ToolFailure("%s lies on ranks %s, expected %s" % (name, side.ranks, list(by_rank)))
        for rank, want in by_rank.items():
            got = side.local_shape(int(rank)), side.index_map(int(rank))
            if got[0] != want["shape"] or ("index" in want and got[1] != expand(want["index"])):
                raise tool.ToolFailure("%s on rank %s is %s, expected %s" % (name, rank, got, want))


def compare_with_report(report, expected):
    for key, want in expected.get("json", {}).items():
        if tool.report_value(report, key) != want:
            raise tool.ToolFailure("%s is %s, expected %s" % (key, tool.report_value(report, key), want))
    balanced = expected.get("balanced_senders")
    if balanced:
        mean = tool.report_value(report, "bytes_crossed") / balanced["ranks"]
        if tool.report_value(report, "senders.max_bytes") > balanced["most"] * mean:
            raise tool.ToolFailure("the busiest of %d senders sends %s, the mean is %s" % (
                balanced["ranks"], tool.report_value(report, "senders.max_bytes"), mean))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf")
    parser.add_argument("--transport", choices=["local", "ucx", "nccl"], default="local")
    parser.add_argument("--threads", action="store_true", help="ranks are threads, also with nccl")
    parser.add_argument("--memory", choices=["host", "cuda"], default="host")
    parser.add_argument("--alloc", choices=["heap", "default"], default="default")
    parser.add_argument("names", nargs="*", help="all when none is given")
    args = parser.parse_args()
    every = sorted(f[:-len(".expected.json")] for f in os.listdir(FOLDER) if f.endswith(".expected.json"))
    options = ["--transport", args.transport] + (["--alloc", "heap"] if args.alloc == "heap" else [])
    options += ["--memory", args.memory] + (["--threads"] if args.threads else [])
    failed = 0
    for name in args.names or every:
        folder = tool.scratch("worked")
        try:
            with open(os.path.join(FOLDER, name + ".json"), encoding="utf-8") as file:
                raw = json.load(file)
            with open(os.path.join(FOLDER, name + ".expected.json"), encoding="utf-8") as file:
                expected = json.load(file)
            compare_with_oracle(spec_module.Spec(raw), expected)
            if args.perf:
                compare_with_report(tool.check_run(args.perf, raw, options, folder), expected)
            print("right   %s" % name, flush=True)
        except tool.ToolFailure as error:
            failed += 1
            print("FAILED  %s: %s" % (name, error), flush=True)
        shutil.rmtree(folder)
    print("%d failed" % failed)
    return 1 if failed or not every else 0


if __name__ == "__main__":
    sys.exit(main())
