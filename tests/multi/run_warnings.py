#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What the description of a machine leaves in doubt reaches the person, on stderr and in --json, from every tool; and
what two descriptions of the same racks make of a transfer.

usage: run_warnings.py --plan RESHARD_PLAN --perf RESHARD_PERF
"""
import argparse
import json
import pathlib
import sys
import tempfile

import tool

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "topology"
MODEL = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512,
         "vocab_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4, "torch_dtype": "bfloat16"}


def report(command, folder, cluster, *layouts):
    """The report of a tool and what it said on stderr."""
    model, out = folder / "model.json", folder / "report.json"
    model.write_text(json.dumps(MODEL), encoding="utf-8")
    status, _, err = tool.run_command([*command, "--model", str(model), "--from", layouts[0], "--to", layouts[1],
                                       "--cluster", cluster, "--json", str(out)])
    if status != 0:
        raise tool.ToolFailure("%s ended with %d: %s" % (command[0], status, err))
    return json.loads(out.read_text(encoding="utf-8")), err


def check(what, found, wanted):
    if found != wanted:
        raise tool.ToolFailure("%s is %r, not %r" % (what, found, wanted))


def check_warnings(name, command, folder):
    """Two devices of superchip.xml are no ports; each tool says each of that once."""
    found, err = report(command, folder, str(DATA / "superchip.xml"), "fsdp:shard=1", "vllm:tp=1")
    lines = [line for line in err.splitlines() if "warning: " in line]
    check("the number of warnings on stderr of " + name, len(lines), 2)
    check("the warnings of " + name, ["%s: warning: %s" % (name, text) for text in found["warnings"]], lines)
    for text, device in zip(found["warnings"], ("wlp4s0", "wg0")):
        check("a warning of %s" % device, device in text and "superchip.xml:" in text, True)


def check_domains(plan, folder):
    """Sources and destinations in racks of their own: everything crosses the network; in one rack nothing does."""
    # The source takes as many trays, of four GPUs each, as the first rack has.
    for topology, shards, domains, crosses in (("topograph_labels.json", 8, 2, True), ("uneven_blocks.conf", 12, 2, True),
                                               ("slurm.yaml", 12, 2, True), ("topograph.json", 8, 2, True)):
        found, _ = report([plan], folder, "gb200-nvl72:topology=%s" % (DATA / topology), "fsdp:shard=%d" % shards,
                          "vllm:tp=4")
        check("the domains of " + topology, found["domains"], domains)
        check("that %s crosses the network" % topology, found["traffic"]["bytes_network"] > 0, crosses)
    found, err = report([plan], folder, "gb200-nvl72:topology=%s" % (DATA / "topology.conf"), "fsdp:shard=8", "vllm:tp=4")
    check("the domains of a tree", found["domains"], 1)
    check("that it is in doubt", "NVLink domains" in err, True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", required=True)
    parser.add_argument("--perf", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            check_warnings("reshard_plan", [arguments.plan], folder)
            check_warnings("reshard_perf", [arguments.perf, "--transport", "local"], folder)
            check_domains(arguments.plan, folder)
        except tool.ToolFailure as failure:
            sys.exit(str(failure))
    print("warnings reach the person from both tools; racks are domains")


if __name__ == "__main__":
    main()
