#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Measures what plans gain over links of a known rate, and how near their times come to bound and estimate.

usage: real_links.py BIN_DIR [--json FILE]

Hosts are namespaces of this machine. A missed goal is printed, not an error; a wrong element or a tool that fails is.
"""
import argparse
import json
import pathlib
import signal
import sys
import tempfile

from measure import Figures, median_seconds
from shaped_hosts import CannotMakeHosts, ShapedHosts

MIB = 2**20
SIZE_MIB = 32  # far above the burst that a link lets through at once
SPREAD_MIB = 64
SPREAD_RATE = "400mbit"
# From one rank to 7 others all links are busy both ways at once: so slow that eight processes on two cores have time.
SEVEN_MIB = 32
SEVEN_RATE = "100mbit"
UPLINK_RATE = "200mbit"
LEAF_HOSTS = 4
NUM_RUNS_OF_ONE = 3  # where one run is timed: one before it, and one that is checked
CHAIN_MIB = 96
CHAIN_RATE = "500mbit"  # three of four hosts send and receive at once: two cores have not time for more
TENSOR_MIB = 4


def side(ranks, placement):
    return {"dtype": "F32", "mesh": {"axes": [["r", len(ranks)]], "ranks": list(ranks)}, "placements": [placement]}


def spec(num_ranks, src, dst, size_mib=SIZE_MIB):
    """Tensors of TENSOR_MIB, each a group of its own."""
    shape = [1024, TENSOR_MIB * MIB // 4 // 1024]
    tensors = [{"name": f"t{i}", "group": i, "shape": shape, "src": src, "dst": dst}
               for i in range(size_mib // TENSOR_MIB)]
    return {"version": 1, "ranks": num_ranks, "tensors": tensors}


class Links:
    """Jobs of reshard_perf on shaped hosts."""

    def __init__(self, bin_dir, folder):
        self.program = pathlib.Path(bin_dir).resolve() / "reshard_perf"
        self.folder = pathlib.Path(folder)
        self.bytes_per_second = 0

    def run(self, hosts, ranks_per_host, job, *arguments, num_runs=3):
        path = self.folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        # The first run takes the burst and the connections' start.
        return hosts.run(self.program, ranks_per_host, "--spec", path, "-w", "1", "-n", num_runs, "--check", "1",
                         "--patterns", "0", *arguments)

    def cluster(self, hosts, ranks_per_host):
        """The machine as reshard is told of it, with the payload rate that was measured."""
        return ["--cluster", f"host:nodes={hosts.num_hosts},ranks={ranks_per_host},nics={hosts.num_nics},"
                             f"nic={round(self.bytes_per_second * 8 / 1e3)}kbit"]

    def measure_rate(self, hosts):
        """From the first host to the second; others look on."""
        job = spec(hosts.num_hosts, side([0], "replicate"), side([1], "replicate"))
        self.bytes_per_second = SIZE_MIB * MIB / median_seconds(self.run(hosts, 1, job))


def against_the_plan(figures, key, text, report):
    """The plan's own figures beside the time measured."""
    seconds = median_seconds(report)
    figures.add(f"{key}.of_bound", f"{text}: time / bound", seconds / report["bound_seconds"], "", "<=", 1.10)
    error = abs(report["estimate_seconds"] / seconds - 1)
    figures.add(f"{key}.estimate", f"{text}: estimate off by", error * 100, " %", "<=", 10)


def two_hosts(links, figures):
    print("\nTwo hosts, 4 ranks each: 32 MiB cut over one host, wanted whole by each rank of the other")
    with ShapedHosts(2) as hosts:
        links.measure_rate(hosts)
        figures.add("real_links.rate", "payload of a link of 1 Gbit/s", links.bytes_per_second * 8 / 1e6, " Mbit/s")
        job = spec(8, side(range(4), {"shard": 0}), side(range(4, 8), "replicate"))
        flat = links.run(hosts, 4, job)
        planned = links.run(hosts, 4, job, *links.cluster(hosts, 4))
        figures.add("real_links.flat_ms", "every rank sends straight to every other", median_seconds(flat) * 1e3, " ms")
        figures.add("real_links.planned_ms", "once over the link, then inside the host", median_seconds(planned) * 1e3,
                    " ms")
        figures.add("real_links.gain", "gain (4 is ideal)", median_seconds(flat) / median_seconds(planned), "", ">=", 3.8)
        against_the_plan(figures, "real_links", "once over the link", planned)


def two_nics(links, figures):
    print("\nTwo hosts with two NICs, 4 ranks each: every rank sends its 8 MiB to one of the other host")
    with ShapedHosts(2, num_nics=2) as hosts:
        job = spec(8, side(range(4), {"shard": 0}), side(range(4, 8), {"shard": 0}))
        one = links.run(hosts, 4, job, "--net-devices", "eth0")
        both = links.run(hosts, 4, job, "--net-devices", "eth0,eth1")
        figures.add("real_links.nics", "ranks dealt over both NICs / all on one",
                    median_seconds(one) / median_seconds(both), "", ">=", 1.9)


def four_hosts(links, figures):
    print(f"\nFour hosts, 1 rank each, links of {CHAIN_RATE}: {CHAIN_MIB} MiB from one to the three others")
    with ShapedHosts(4, rate=CHAIN_RATE) as hosts:
        links.measure_rate(hosts)
        job = spec(4, side([0], "replicate"), side(range(1, 4), "replicate"), CHAIN_MIB)
        flat = links.run(hosts, 1, job, num_runs=1)
        chain = links.run(hosts, 1, job, *links.cluster(hosts, 1))
        once = CHAIN_MIB * MIB / links.bytes_per_second
        figures.add("real_links.star", "the source sends three times: time / once over a link", median_seconds(flat) / once)
        figures.add("real_links.chain", "each passes it on: time / once over a link", median_seconds(chain) / once, "",
                    "<=", 1.1)
        against_the_plan(figures, "real_links.chain", "each passes it on", chain)


def one_to_seven(links, figures):
    """Ranks of one host, as far as the plan knows: only what joins them is slow, and in namespaces to be so."""
    print(f"\n8 ranks, each with a link of {SEVEN_RATE}: {SEVEN_MIB} MiB of one, wanted by the 7 others")
    with ShapedHosts(8, rate=SEVEN_RATE) as hosts:
        links.measure_rate(hosts)
        job = spec(8, side([0], "replicate"), side(range(1, 8), "replicate"), SEVEN_MIB)
        flat = links.run(hosts, 1, job, num_runs=1)
        cluster = f"host:ranks=8,link={round(links.bytes_per_second / 1e3)}kB"
        spread = links.run(hosts, 1, job, "--cluster", cluster)
        once = SEVEN_MIB * MIB / links.bytes_per_second
        figures.add("real_links.spread.flat", "one sends to all: time / once over a link", median_seconds(flat) / once)
        figures.add("real_links.spread.gain", "gain of spreading over it (7 is ideal)",
                    median_seconds(flat) / median_seconds(spread), "", ">=", 6.5)
        against_the_plan(figures, "real_links.spread", "spread", spread)


def two_leaves(links, figures):
    print(f"\n4 hosts on each of two leaves, uplinks of {UPLINK_RATE}: {SPREAD_MIB} MiB cut over one leaf, wanted whole by "
          "each host of the other")
    with ShapedHosts(2 * LEAF_HOSTS, rate=SPREAD_RATE, leaf_hosts=LEAF_HOSTS, uplink_rate=UPLINK_RATE) as hosts:
        links.measure_rate(hosts)  # within a leaf
        job = spec(8, side(range(4), {"shard": 0}), side(range(4, 8), "replicate"), SPREAD_MIB)
        cluster = f"{links.cluster(hosts, 1)[1]},leaf={LEAF_HOSTS},oversub={2 * LEAF_HOSTS}"
        before = hosts.uplink_bytes(0)
        report = links.run(hosts, 1, job, "--cluster", cluster, num_runs=1)
        crossed = (hosts.uplink_bytes(0) - before) / NUM_RUNS_OF_ONE
        figures.add("real_links.leaves.crossed", "bytes that went up from the leaf / bytes of the job, headers included",
                    crossed / (SPREAD_MIB * MIB), "", "<=", 1.1)
        figures.add("real_links.leaves.of_bound", "two leaves: time / bound",
                    median_seconds(report) / report["bound_seconds"], "", "<=", 1.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts are taken down
    figures = Figures()
    print("Figures over links between namespaces, of 1 Gbit/s unless another rate is told; medians of 3 runs")
    with tempfile.TemporaryDirectory() as folder:
        links = Links(arguments.bin_dir, folder)
        try:
            for measure in (two_hosts, two_nics, four_hosts, one_to_seven, two_leaves):
                measure(links, figures)
        except CannotMakeHosts as error:
            print(f"real links: skipped: {error}")
            return
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "figures": figures.rows}, file, indent=1)


if __name__ == "__main__":
    main()
