# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Processes with a process group, for tests against the real torch; they are forked, so that torch is imported once."""
import multiprocessing
import os
import socket
import sys
import traceback

import torch
import torch.distributed as dist

torch.set_num_threads(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_main(rank, num_ranks, port, function, arguments):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=num_ranks)
    try:
        function(rank, *arguments)
        dist.barrier()
    except BaseException:
        sys.stderr.write(f"rank {rank}:\n{traceback.format_exc()}")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # without the minute that gloo may take to find that peers have left


def run_ranks(num_ranks, function, *arguments, timeout=240):
    """Calls function(rank, *arguments) in so many processes; exits with their number of failures if any."""
    context = multiprocessing.get_context("fork")  # before any comm of reshard is made
    port = free_port()
    ranks = [context.Process(target=rank_main, args=(rank, num_ranks, port, function, arguments))
             for rank in range(num_ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout)
    failed = [rank for rank, process in enumerate(ranks) if process.exitcode != 0]
    for process in ranks:
        if process.is_alive():
            process.kill()
    if failed:
        sys.exit(f"ranks {failed} failed")
