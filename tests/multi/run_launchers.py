# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""reshard_perf joins the ranks of torchrun, srun and mpirun from their environment, and the result is right.

torchrun and srun are played here by the variables they set; mpirun is the real one where it is installed.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import tool

import check_dump
import random_spec
import spec as spec_module

SCHEDULER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RESHARD_ROOT")


def clean_environment():
    return {name: value for name, value in os.environ.items()
            if name not in SCHEDULER_VARIABLES and not name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_"))}


def torchrun(rank, num_ranks, port):
    return {"RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": num_ranks, "GROUP_RANK": 0,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_USE_AGENT_STORE": "True"}


def srun(rank, num_ranks, port):
    host = socket.gethostname()
    return {"SLURM_PROCID": rank, "SLURM_NTASKS": num_ranks, "SLURM_LOCALID": rank, "SLURM_NPROCS": num_ranks,
            "SLURM_JOB_ID": port, "SLURM_JOBID": port, "SLURM_STEP_ID": 0, "SLURM_STEPID": 0, "SLURM_NNODES": 1,
            "SLURM_JOB_NODELIST": host, "SLURM_NODELIST": host, "SLURM_STEP_NODELIST": host, "SLURM_NODEID": 0,
            "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1", "SLURM_SRUN_COMM_HOST": "127.0.0.1"}


def start_one_by_one(command, variables, num_ranks, port):
    logs = [tempfile.TemporaryFile() for _ in range(num_ranks)]
    processes = []
    for rank in range(num_ranks):
        env = clean_environment()
        env.update((name, str(value)) for name, value in variables(rank, num_ranks, port).items())
        processes.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                          stderr=logs[rank]))
    try:
        for rank, process in enumerate(processes):
            status = process.wait(timeout=tool.HANG_SECONDS)
            logs[rank].seek(0)
            if status != 0:
                raise tool.ToolFailure("rank %d: status %d\n%s" % (rank, status, logs[rank].read().decode()))
    except subprocess.TimeoutExpired:
        raise tool.ToolFailure("rank %d hangs" % rank)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start_mpirun(command, num_ranks):
    mpirun = ["mpirun", "--oversubscribe", "--allow-run-as-root", "-n", str(num_ranks)]
    status, out, err = tool.run_command(mpirun + command, env=clean_environment())
    if status != 0:
        raise tool.ToolFailure("mpirun: status %d\n%s%s" % (status, out, err))


def check(perf, launcher, seed):
    """One random spec, started by one launcher."""
    raw = random_spec.generate("launchers:%d" % seed, 6)
    folder = tool.scratch("launcher")
    path, dump = os.path.join(folder, "spec.json"), os.path.join(folder, "dump")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(raw, file)
    os.mkdir(dump)
    command = [perf, "--spec", path, "--transport", "ucx", "-n", "1", "-w", "1", "--check", "1", "--dump", dump]
    if launcher == "mpirun":
        start_mpirun(command, raw["ranks"])
    else:
        # The agent of a real torchrun listens on MASTER_PORT while the ranks run.
        with socket.socket() as agent:
            agent.bind(("127.0.0.1", 0))
            agent.listen()
            port = agent.getsockname()[1]
            start_one_by_one(command, torchrun if launcher == "torchrun" else srun, raw["ranks"], port)
    try:
        check_dump.check(spec_module.Spec(raw), dump)
    except check_dump.DumpError as error:
        raise tool.ToolFailure(str(error))
    shutil.rmtree(folder)


TWO_RANKS = {
    "version": 1, "ranks": 2,
    "tensors": [{
        "name": "a", "shape": [64, 64],
        "src": {"dtype": "F32", "mesh": {"axes": [["fsdp", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},
        "dst": {"dtype": "F32", "mesh": {"axes": [["tp", 2]], "ranks": [0, 1]}, "placements": [{"shard": 1}]},
    }],
}


def two_rank_command(perf, folder, *more):
    path = os.path.join(folder, "spec.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(TWO_RANKS, file)
    return [perf, "--spec", path, "--transport", "ucx", "-n", "1", "-w", "0", *more]


def expect(condition, text):
    if not condition:
        raise tool.ToolFailure(text)


def run_in(folder, command, variables):
    env = dict(clean_environment(), **{name: str(value) for name, value in variables.items()})
    return tool.run_command(command, env=env)


def pod_variables(args, folder):
    """What a pod sets for all its processes alike does not count against mpirun, which started these."""
    if not shutil.which("mpirun"):
        print("skipped pod_variables: mpirun is not installed")
        return
    mpirun = ["mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "2"]
    for started in ([], ["bash", "-c", '"$0" "$@"; exit $?']):  # its child, and its grandchild
        command = mpirun + started + two_rank_command(args.perf, folder)
        status, out, err = run_in(folder, command, {"RANK": 0, "WORLD_SIZE": 8})
        expect(status == 0, "mpirun in a pod: status %d\n%s%s" % (status, out, err))


def slurm_shell(args, folder):
    """In a shell inside a Slurm job every program looks like a rank; the tool says so, and can be told otherwise."""
    shell = {"SLURM_PROCID": 0, "SLURM_NTASKS": 1, "SLURM_JOB_ID": 7, "SLURM_STEP_ID": 0, "SLURM_LOCALID": 0,
             "SLURM_STEP_NODELIST": "localhost"}
    status, out, err = run_in(folder, two_rank_command(args.perf, folder), shell)
    words = ("2 ranks", "SLURM_PROCID=0", "SLURM_NTASKS=1", "srun", "--start-ranks")
    expect(status == 1 and all(word in err for word in words), "status %d, says %s" % (status, err))
    status, out, err = run_in(folder, two_rank_command(args.perf, folder, "--start-ranks"), shell)
    expect(status == 0 and "0 wrong" in out, "--start-ranks: status %d\n%s%s" % (status, out, err))


def long_wait(args, folder):
    """A rank that waits says after two seconds for whom, and by whose variables it knows; the error says it again."""
    command = two_rank_command(args.perf, folder, "--timeout", "4")
    env = dict(clean_environment(), **{name: str(value) for name, value in torchrun(0, 2, free_port()).items()})
    began = time.monotonic()
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as process:
        first = process.stderr.readline()
        passed = time.monotonic() - began
        rest = process.communicate(timeout=tool.HANG_SECONDS)[1]
    for text in (first, rest):
        expect(all(word in text for word in ("rank 1", "torchrun", "RANK=0", "WORLD_SIZE=2")), "says %s" % text)
    expect(passed >= 2 and "waits" in first and "TIMEOUT" in rest, "after %.1f s: %s%s" % (passed, first, rest))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SITUATIONS = {"pod_variables": pod_variables, "slurm_shell": slurm_shell, "long_wait": long_wait}


def check_situations(args):
    failed = 0
    for name, situation in SITUATIONS.items():
        folder = tool.scratch("launcher")
        try:
            situation(args, folder)
            print("right   %s" % name, flush=True)
        except tool.ToolFailure as error:
            failed += 1
            print("FAILED  %s: %s" % (name, error), flush=True)
        shutil.rmtree(folder)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("launchers", nargs="*", help="of torchrun, srun, mpirun; all that are there when none is given")
    args = parser.parse_args()
    failed = 0 if args.launchers else check_situations(args)
    for launcher in args.launchers or ["torchrun", "srun", "mpirun"]:
        if launcher == "mpirun" and not shutil.which("mpirun"):
            print("skipped mpirun: it is not installed")
            continue
        try:
            for seed in range(args.count):
                check(args.perf, launcher, seed)
            print("right   %s" % launcher, flush=True)
        except tool.ToolFailure as error:
            failed += 1
            print("FAILED  %s, spec %d: %s" % (launcher, seed, error), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
