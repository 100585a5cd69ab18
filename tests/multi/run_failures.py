# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Ranks that die, stop, never come or bring another plan: every survivor must end with a status, none may hang.

The ranks are started here as a launcher would, so that each one's exit status is seen.
"""

import argparse
import copy
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tool

TIMEOUT_SECONDS = 4  # what the ranks get as --timeout
GRACE_SECONDS = 40  # for starting, the deadline itself and teardown on a loaded machine
NUM_RANKS = 4
NUM_RUNS = "1000000"  # more than any of these tests lives to see

SPEC = {
    "version": 1, "ranks": NUM_RANKS,
    "tensors": [{
        "name": "layer%d" % i, "group": i, "shape": [512, 511],
        "src": {"dtype": "F32", "mesh": {"axes": [["fsdp", 4]], "ranks": [0, 1, 2, 3]}, "placements": [{"shard": 0}]},
        "dst": {"dtype": "BF16", "mesh": {"axes": [["tp", 4]], "ranks": [3, 2, 1, 0]}, "placements": [{"shard": 1}]},
    } for i in range(4)],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Job:
    """The ranks of one run, each a process of its own."""

    def __init__(self, perf, alloc, specs, num_ranks=NUM_RANKS, absent=()):
        self.folder, port = tool.scratch("failure"), free_port()
        self.processes, self.logs = {}, {}
        for rank, spec in enumerate(specs):
            if rank in absent:
                continue
            path = os.path.join(self.folder, "spec%d.json" % rank)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(spec, file)
            env = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(num_ranks), LOCAL_RANK=str(rank),
                       LOCAL_WORLD_SIZE=str(num_ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            command = [perf, "--spec", path, "--transport", "ucx", "-n", NUM_RUNS, "-w", "1", "--timeout",
                       str(TIMEOUT_SECONDS)] + (["--alloc", "heap"] if alloc == "heap" else [])
            self.logs[rank] = tempfile.TemporaryFile(dir=self.folder)
            self.processes[rank] = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL,
                                                    stdout=subprocess.DEVNULL, stderr=self.logs[rank])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.folder)

    def said(self, rank):
        self.logs[rank].seek(0)
        return self.logs[rank].read().decode(errors="replace")

    def let_run(self, seconds=3.0):
        """Waits until the ranks have been moving bytes for a while; all must still be at it."""
        time.sleep(seconds)
        for rank, process in self.processes.items():
            if process.poll() is not None:
                raise tool.ToolFailure("rank %d ended by itself: %d\n%s" % (rank, process.poll(), self.said(rank)))

    def expect_failures(self, ranks, words):
        """Each of the ranks ends in time, by itself, not well, and says one of the words."""
        deadline = time.monotonic() + TIMEOUT_SECONDS + GRACE_SECONDS
        for rank in ranks:
            try:
                status = self.processes[rank].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise tool.ToolFailure("rank %d hangs\n%s" % (rank, self.said(rank)))
            text = self.said(rank)
            if status <= 0 or status >= 126:
                raise tool.ToolFailure("rank %d ended with status %d\n%s" % (rank, status, text))
            if not re.search(words, text, re.IGNORECASE):
                raise tool.ToolFailure("rank %d does not say %s: %s" % (rank, words, text))


LOST = "TIMEOUT|PEER_FAILED|TRANSPORT"


def expect_survivors(job, ranks):
    """Each of the ranks ends with a status. Whoever finds out first tells the others, who may hear it from him only."""
    job.expect_failures(ranks, LOST + "|ABANDONED")
    if not any(re.search(LOST, job.said(rank)) for rank in ranks):
        raise tool.ToolFailure("no rank says why it gave up, only that another did: %s" % job.said(ranks[0]))


def killed(args):
    """One rank is killed in the middle of a run."""
    for victim in (0, 2):
        with Job(args.perf, args.alloc, [SPEC] * NUM_RANKS) as job:
            job.let_run()
            job.processes[victim].send_signal(signal.SIGKILL)
            expect_survivors(job, [r for r in range(NUM_RANKS) if r != victim])


def stopped(args):
    """One rank stands still for longer than the deadline; woken up, it finds the others gone, or that they gave up."""
    with Job(args.perf, args.alloc, [SPEC] * NUM_RANKS) as job:
        job.let_run()
        job.processes[1].send_signal(signal.SIGSTOP)
        expect_survivors(job, [0, 2, 3])
        job.processes[1].send_signal(signal.SIGCONT)
        job.expect_failures([1], LOST + "|ABANDONED")


def absent(args):
    """One rank never comes."""
    for missing in (0, 3):
        with Job(args.perf, args.alloc, [SPEC] * NUM_RANKS, absent=(missing,)) as job:
            job.expect_failures([r for r in range(NUM_RANKS) if r != missing], LOST)


def mismatched(args):
    """One rank has another plan: all of them say so."""
    other = copy.deepcopy(SPEC)
    other["tensors"][2]["dst"]["mesh"]["ranks"] = [0, 1, 2, 3]
    for odd in (0, 2):
        specs = [other if rank == odd else SPEC for rank in range(NUM_RANKS)]
        with Job(args.perf, args.alloc, specs) as job:
            job.expect_failures(range(NUM_RANKS), "PLAN_MISMATCH")


def too_few(args):
    """The launcher started 3 ranks for a spec of 4."""
    with Job(args.perf, args.alloc, [SPEC] * 3, num_ranks=3) as job:
        job.expect_failures(range(3), "ranks")


def children_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


class SelfStarted:
    """The tool with ranks that it starts itself, in a session of its own."""

    def __init__(self, args, num_runs=NUM_RUNS, before=None, stdout=subprocess.DEVNULL):
        self.folder = tool.scratch("failure")
        path = os.path.join(self.folder, "spec.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(SPEC, file)
        command = [args.perf, "--spec", path, "--transport", "ucx", "-n", num_runs, "--timeout", str(TIMEOUT_SECONDS)]
        command += ["--alloc", "heap"] if args.alloc == "heap" else []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout,
                                        stderr=subprocess.PIPE, start_new_session=True, preexec_fn=before)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stderr.close()
        shutil.rmtree(self.folder)

    def ranks(self):
        """The rank processes, once all of them are there."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            found = children_of(self.process.pid) if self.process.poll() is None else []
            if len(found) == NUM_RANKS:
                return found
            time.sleep(0.01)
        raise tool.ToolFailure("the ranks did not start")

    def end(self, seconds):
        """The status and what was said."""
        try:
            err = self.process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            raise tool.ToolFailure("the tool hangs")
        return self.process.returncode, err.decode(errors="replace")


def wait_gone(pids, seconds=10):
    deadline = time.monotonic() + seconds
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = [pid for pid in left if os.path.exists("/proc/%d" % pid)]
    if left:
        raise tool.ToolFailure("processes %s are left" % left)


def self_started(args):
    """A rank that the tool started itself is killed: the tool fails and leaves no process behind."""
    with SelfStarted(args) as job:
        ranks = job.ranks()
        time.sleep(3)
        os.kill(ranks[1], signal.SIGKILL)
        status, err = job.end(TIMEOUT_SECONDS + GRACE_SECONDS)
        if status <= 0 or not err.strip():
            raise tool.ToolFailure("status %d: %s" % (status, err))
        left = [pid for pid in ranks if os.path.exists("/proc/%d" % pid)]
        if left:
            raise tool.ToolFailure("processes %s are left" % left)


def full_pipe():
    """Both ends of a pipe that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b" " * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


def endless(args):
    """Rank 0 never gets rid of its report, so it does not end when the others have: the tool has a deadline too."""
    reader, writer = full_pipe()
    try:
        with SelfStarted(args, num_runs="1", stdout=writer) as job:
            ranks = job.ranks()
            status, err = job.end(TIMEOUT_SECONDS + GRACE_SECONDS)
            if status != 1 or "rank 0 did not end within" not in err:
                raise tool.ToolFailure("status %d: %s" % (status, err))
            wait_gone(ranks)
    finally:
        os.close(reader)
        os.close(writer)


def hung_up(args):
    """The terminal goes, or the tool is asked to end: so do all ranks, and by the signal. nohup keeps them."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        with SelfStarted(args) as job:
            ranks = job.ranks()
            time.sleep(0.5)
            job.process.send_signal(number)
            status, err = job.end(GRACE_SECONDS)
            if status != -number:
                raise tool.ToolFailure("signal %d: status %d: %s" % (number, status, err))
            wait_gone(ranks)
    # Under nohup it means nothing.
    with SelfStarted(args, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as job:
        ranks = job.ranks()
        time.sleep(0.5)
        job.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        if job.process.poll() is not None or len(children_of(job.process.pid)) != NUM_RANKS:
            raise tool.ToolFailure("SIGHUP ended the tool although it was ignored")


def segments():
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith(("ucx_shm_posix_", "reshard_perf.")))


def stay(names, seconds=40):
    """Those of the segments that are there to stay: tests that run beside this one remove theirs within this time."""
    deadline = time.monotonic() + seconds
    while names and time.monotonic() < deadline:
        time.sleep(0.1)
        names = [name for name in names if name in segments()]
    return names


def no_segments(args):
    """Ranks, or the tool, killed while comms are made: nothing of theirs stays in /dev/shm."""
    before = segments()
    seed = int(time.time())
    print("        seed %d, %d kills" % (seed, args.kills), flush=True)
    chance = random.Random(seed)
    for i in range(args.kills):
        with SelfStarted(args) as job:
            ranks = job.ranks()
            time.sleep(chance.uniform(0, 0.3))
            victim = chance.choice(ranks)
            try:
                os.kill(job.process.pid if i % 10 == 9 else victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
            job.end(GRACE_SECONDS)
            wait_gone(ranks)
    with SelfStarted(args, num_runs="1") as job:  # removes what launchers that were killed left
        job.end(GRACE_SECONDS)
    left = stay([name for name in segments() if name not in before])
    if left:
        raise tool.ToolFailure("left in /dev/shm: %s" % left)


CASES = {"killed": killed, "stopped": stopped, "absent": absent, "mismatched": mismatched, "too_few": too_few,
         "self_started": self_started, "endless": endless, "hung_up": hung_up, "no_segments": no_segments}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    parser.add_argument("--alloc", choices=["heap", "default"], default="default")
    parser.add_argument("--kills", type=int, default=10, help="of ranks and launchers while comms are made")
    parser.add_argument("cases", nargs="*", help="of %s; all when none is given" % ", ".join(CASES))
    args = parser.parse_args()
    failed = 0
    for name in args.cases or CASES:
        began = time.monotonic()
        try:
            CASES[name](args)
            print("right   %s (%.1f s)" % (name, time.monotonic() - began), flush=True)
        except tool.ToolFailure as error:
            failed += 1
            print("FAILED  %s: %s" % (name, error), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
