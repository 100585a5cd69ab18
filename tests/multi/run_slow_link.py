#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A link between two hosts falls to 300 kbit/s: the run's status comes within its deadline and 0.2 s, on both ranks.

usage: run_slow_link.py --program PROGRAM [--count 3] [--late 0.2]

Needs root, for hosts that are namespaces of this machine; skips, with 77, where they cannot be made.
"""
import argparse
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "perf" / "figures"))
from shaped_hosts import CannotMakeHosts, ShapedHosts, call  # noqa: E402

SLOW = "300kbit"
TIMEOUTS_US = [120_000, 1_000_000, 3_000_000]
PATIENCE_SECONDS = 60


def set_rate(hosts, rate):
    for index in range(2):
        for namespace, device in ((hosts.host(index), "eth0"), (f"{hosts.prefix}sw", f"p{index}n0")):
            call("tc", "-n", namespace, "qdisc", "change", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb",
                 "latency", "50ms")


def start(hosts, program, rank, timeout_us, number):
    variables = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": hosts.address(0), "MASTER_PORT": 29600,
                 "TORCHELASTIC_RUN_ID": f"{hosts.prefix}/{number}"}
    enter = [shutil.which("nsenter"), "-t", hosts.pids[rank], "-n", "-i", "-p", "-m", "-u"]
    return subprocess.Popen([*enter, str(program), str(timeout_us)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **{key: str(value) for key, value in variables.items()}})


def next_line(rank):
    ready, _, _ = select.select([rank.stdout], [], [], PATIENCE_SECONDS)
    line = rank.stdout.readline().strip() if ready else ""
    if not line:
        rank.kill()
        raise RuntimeError(f"a rank said nothing more: {rank.communicate()[1]}")
    return line


def play(hosts, program, timeout_us, number):
    """Status and lateness of both ranks."""
    ranks = [start(hosts, program, rank, timeout_us, number) for rank in range(2)]
    try:
        for rank in ranks:
            if next_line(rank) != "ready":
                raise RuntimeError("a rank was not ready")
        set_rate(hosts, SLOW)
        for rank in ranks:
            rank.stdin.write("\n")
            rank.stdin.flush()
        lines = [next_line(rank).split() for rank in ranks]
        set_rate(hosts, hosts.rate)
        for rank in ranks:
            rank.stdin.write("\n")
            rank.stdin.flush()
        for rank in ranks:
            if rank.wait(PATIENCE_SECONDS) != 0:
                raise RuntimeError(f"a rank ended with {rank.returncode}: {rank.stderr.read()}")
        return [(status, float(late)) for status, late in lines]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=3, help="runs for each deadline")
    parser.add_argument("--late", type=float, default=0.2, help="most seconds behind the deadline")
    arguments = parser.parse_args()
    bad = 0
    try:
        with ShapedHosts(2) as hosts:
            for number in range(arguments.count * len(TIMEOUTS_US)):
                timeout_us = TIMEOUTS_US[number % len(TIMEOUTS_US)]
                begin = time.monotonic()
                ends = play(hosts, arguments.program.resolve(), timeout_us, number)
                is_good = all(status in ("RESHARD_ERR_TIMEOUT", "RESHARD_ERR_ABANDONED") and late <= arguments.late
                              for status, late in ends)
                bad += not is_good
                print(f"deadline {timeout_us / 1e6} s: {ends}, {time.monotonic() - begin:.1f} s in all"
                      f"{'' if is_good else '  WRONG'}", flush=True)
    except (CannotMakeHosts, FileNotFoundError) as error:
        print(f"skipped: {error}")
        sys.exit(77)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
