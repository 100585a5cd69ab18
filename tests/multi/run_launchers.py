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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("launchers", nargs="*", help="of torchrun, srun, mpirun; all that are there when none is given")
    args = parser.parse_args()
    failed = 0
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
