#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""An RL loop in miniature: a small Qwen3 model under FSDP2 in four processes, and a live vLLM engine of two ranks.

Each step the engine answers prompts, the trainers raise the probability of answers with many even tokens, and the new
weights go into the engine while it is up: from every trainer's shards to what each worker holds, with no full tensor
anywhere. At the end the trained model is saved and a fresh engine is started from the file: both must say the same.

usage: main.py [STEPS]      on this machine, without a GPU; the packages torch, transformers, vllm and reshard
"""
import multiprocessing
import socket
import sys
import tempfile

import model
import server  # imports vLLM, before the trainers are forked: an import takes longest here

STEPS, TRAINERS, WORKERS = 4, 4, 2


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(*arguments):
    import trainer  # and with it reshard, in the trainer's own process
    trainer.run(*arguments)


def start_trainers(folder, steps):
    """([processes], the end of a pipe to rank 0)"""
    fork, port = multiprocessing.get_context("fork"), free_port()
    ours, theirs = fork.Pipe()
    ranks = [fork.Process(target=train, args=(rank, TRAINERS, WORKERS, port, folder, steps,
                                              theirs if rank == 0 else None)) for rank in range(TRAINERS)]
    for process in ranks:
        process.start()
    theirs.close()
    return ranks, ours


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    with tempfile.TemporaryDirectory() as folder:
        model.save_first(f"{folder}/first")
        ranks, connection = start_trainers(folder, steps)
        engine = server.Server(f"{folder}/first", WORKERS)
        before = engine.greedy()
        engine.serve(connection)
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            return 1
        live = engine.greedy()
        engine.stop()
        fresh = server.Server(f"{folder}/last", WORKERS)
        expected = fresh.greedy()
        fresh.stop()
    print(f"after {steps} steps the engine says {live[0]}, in the beginning {before[0]}")
    if live != expected or live == before:
        print(f"a fresh engine with these weights says {expected[0]}" if live != expected else "nothing has changed")
        return 1
    print("a fresh engine from the saved weights says the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
