#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Measures how long a job of two ranks takes to find each other, without and with silent strangers on its port.

usage: start_among_strangers.py LIBRESHARD [--strangers 5000] [--rounds 5] [--descriptors 1024]

The time runs from the launch of the ranks until both have their comm. Strangers have connected before, say nothing, and
are more than rank 0 may have descriptors. Jobs with and without them alternate, each in a process of its own. By hand:
nothing in CI asserts a time.
"""
import argparse
import ctypes
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time


def listening_port():
    """Of the one listening socket that this process has."""
    mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
    for line in pathlib.Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
            return int(fields[1].split(":")[1], 16)
    raise RuntimeError("the library listens on no port")


def be_strangers(port, count, ready):
    """Connects and says nothing, until it is killed. Connects do not wait: some stay in the kernel's line."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = [socket.socket() for _ in range(count)]
    for stranger in sockets:
        stranger.setblocking(False)
        stranger.connect_ex(("127.0.0.1", port))
    time.sleep(0.5)
    os.write(ready, b"x")
    signal.pause()


def join(library, unique_id, rank):
    comm = ctypes.c_void_p()
    if library.reshard_comm_create_from_id(ctypes.byref(unique_id), rank, 2, None, ctypes.byref(comm)) != 0:
        sys.exit(library.reshard_last_error().decode())


def start_once(path, num_strangers, num_descriptors):
    """Seconds until both ranks have their comm."""
    library = ctypes.CDLL(path)
    library.reshard_last_error.restype = ctypes.c_char_p
    unique_id = (ctypes.c_char * 128)()
    if library.reshard_unique_id_create(None, ctypes.byref(unique_id)) != 0:
        sys.exit(library.reshard_last_error().decode())
    port = listening_port()
    ready, said = os.pipe()
    strangers = os.fork() if num_strangers > 0 else 0
    if num_strangers > 0 and strangers == 0:
        be_strangers(port, num_strangers, said)
    if num_strangers > 0:
        os.read(ready, 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    begin = time.monotonic()
    other = os.fork()
    if other == 0:
        join(library, unique_id, 1)
        os.write(said, repr(time.monotonic() - begin).ljust(32).encode())
        time.sleep(1)  # rank 0 has its comm, too, before this one leaves
        os._exit(0)
    join(library, unique_id, 0)
    seconds = max(time.monotonic() - begin, float(os.read(ready, 32)))
    if strangers > 0:
        os.kill(strangers, signal.SIGKILL)
    print(seconds, flush=True)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--strangers", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--descriptors", type=int, default=1024)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        start_once(arguments.library, arguments.strangers, arguments.descriptors)
    times = {0: [], arguments.strangers: []}
    for _ in range(arguments.rounds):
        for count, its in times.items():
            command = [sys.executable, "-B", __file__, arguments.library, "--once", "--strangers", str(count),
                       "--descriptors", str(arguments.descriptors)]
            its.append(float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout))
    for count, its in times.items():
        print(f"  {count:>5} silent strangers: the job starts in {statistics.median(its):.2f} s "
              f"({min(its):.2f} to {max(its):.2f} in {len(its)} rounds)")


if __name__ == "__main__":
    main()
