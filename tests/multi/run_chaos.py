#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Harms one rank of a job and looks at the others: nobody hangs, no success is false, the survivors recover.

usage: run_chaos.py --chaos PROGRAM [--count 20] [--seed 1] [--memory heap,mapped]

Each case draws what happens (kill, stop, exit, leave in order), when, to whom, over which transports of UCX, with memory
of the heap or that peers map (or, if asked for, of a device), straight or through relays. A case that fails prints all of that, and what its ranks said.
"""
import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

ACTIONS = ["kill", "stop", "exit", "leave"]
PHASES = ["before_comm", "before_bind", "after_bind", "before_start", "after_start", "in_run"]
TRANSPORTS = ["", "tcp,self", "posix,self", "sysv,cma,self"]
CASE_SECONDS = 60


def draw(rng, memory):
    num_ranks = rng.choice([3, 4, 5])
    return {"ranks": num_ranks, "victim": rng.randrange(num_ranks), "action": rng.choice(ACTIONS),
            "phase": rng.choice(PHASES), "memory": rng.choice(memory),
            "ways": rng.choice(["direct", "relayed"]), "tls": rng.choice(TRANSPORTS)}


def play(program, case):
    """Problems of one case, and what its ranks printed."""
    environment = {**os.environ, "UCX_LOG_LEVEL": "fatal"}
    if case["tls"]:
        environment["UCX_TLS"] = case["tls"]
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(case["ranks"]):
            command = [program, str(rank), str(case["ranks"]), folder, str(case["victim"]), case["action"], case["phase"],
                       case["memory"], case["ways"]]
            ranks.append(subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT))
        end = time.monotonic() + CASE_SECONDS
        problems = []
        for rank, process in enumerate(ranks):
            if rank == case["victim"]:
                continue
            try:
                if process.wait(max(0.1, end - time.monotonic())) != 0:
                    problems.append(f"rank {rank} ended with {process.returncode}")
            except subprocess.TimeoutExpired:
                problems.append(f"rank {rank} hangs")
        for process in ranks:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        said = [process.communicate()[0] for process in ranks]
    return problems, "".join(said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--chaos", required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", default="heap,mapped", help="kinds to draw from: heap, mapped, device")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    failed, kinds = 0, collections.Counter()
    for _ in range(arguments.count):
        case = draw(rng, arguments.memory.split(","))
        kinds[case["action"]] += 1
        problems, said = play(arguments.chaos, case)
        if problems:
            failed += 1
            print(f"{case}: {'; '.join(problems)}\n{said}", flush=True)
    print(f"seed {arguments.seed}: {arguments.count} jobs came to harm ({dict(kinds)}), {failed} badly")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
