#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Starts N ranks of a program with the environment that torchrun gives, and fails when one of them fails.

usage: run_ranks.py N PROGRAM [ARGUMENT...]     a PROGRAM of the name *.py is run by the Python that runs this
"""
import os
import socket
import subprocess
import sys

TIMEOUT_SECONDS = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    num_ranks, program = int(sys.argv[1]), sys.argv[2:]
    if program[0].endswith(".py"):
        program = [sys.executable, "-B", *program]
    shared = dict(os.environ, WORLD_SIZE=str(num_ranks), LOCAL_WORLD_SIZE=str(num_ranks), MASTER_ADDR="127.0.0.1",
                  MASTER_PORT=str(free_port()))
    ranks = [subprocess.Popen(program, env=dict(shared, RANK=str(rank), LOCAL_RANK=str(rank)))
             for rank in range(num_ranks)]
    codes = []
    for rank in ranks:
        try:
            codes.append(rank.wait(TIMEOUT_SECONDS))
        except subprocess.TimeoutExpired:
            rank.kill()
            codes.append("killed after a timeout")
    print(f"exit codes: {codes}")
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
