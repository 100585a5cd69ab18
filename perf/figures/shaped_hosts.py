# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Several hosts on one machine: namespaces joined by links of a limited rate."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

START_SECONDS = 10
RUN_SECONDS = 120


class CannotMakeHosts(Exception):
    """This machine does not let us."""


def call(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMakeHosts(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class ShapedHosts:
    """num_hosts hosts with num_nics devices eth0, eth1, ... each, every one with its own switch; to be used in `with`.

    With leaf_hosts, so many hosts hang on a leaf switch each, for every device; leaves are joined by uplinks of uplink_rate.

    A host has IPC, PID and UTS namespaces of its own, too: else UCX finds shared memory between hosts.
    """

    def __init__(self, num_hosts, num_nics=1, rate="1gbit", leaf_hosts=None, uplink_rate=None):
        self.prefix = f"reshard{os.getpid()}"
        self.switch = f"{self.prefix}sw"
        self.leaf_hosts = leaf_hosts or num_hosts
        self.uplink_rate = uplink_rate
        self.num_hosts = num_hosts
        self.num_nics = num_nics
        self.rate = rate
        self.keepers = []  # a process in each host that keeps its namespaces
        self.pids = []  # of them, as seen from here
        self.num_jobs = 0

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_):
        self._remove()

    def host(self, index):
        return f"{self.prefix}h{index}"

    def address(self, host, nic=0):
        return f"10.77.{nic}.{host + 1}"

    def uplink_bytes(self, leaf, nic=0):
        """What has gone up from a leaf so far, headers included."""
        shown = json.loads(call("ip", "-n", self.switch, "-s", "-j", "link", "show", "dev", f"up{leaf}n{nic}"))
        return shown[0]["stats64"]["tx"]["bytes"]

    def _make(self):
        call("ip", "netns", "add", self.switch)
        num_leaves = -(-self.num_hosts // self.leaf_hosts)
        for nic in range(self.num_nics):
            for leaf in range(num_leaves):
                self._add_bridge(f"leaf{leaf}n{nic}")
            if num_leaves > 1:
                self._join_leaves(nic, num_leaves)
        for index in range(self.num_hosts):
            name = self.host(index)
            call("ip", "netns", "add", name)
            call("ip", "-n", name, "link", "set", "lo", "up")
            for nic in range(self.num_nics):
                self._plug(name, index, nic)
            self._keep(name)

    def _add_bridge(self, name):
        call("ip", "-n", self.switch, "link", "add", name, "type", "bridge")
        call("ip", "-n", self.switch, "link", "set", name, "up")

    def _join_leaves(self, nic, num_leaves):
        spine = f"spine{nic}"
        self._add_bridge(spine)
        for leaf in range(num_leaves):
            up, down = f"up{leaf}n{nic}", f"down{leaf}n{nic}"
            call("ip", "-n", self.switch, "link", "add", up, "type", "veth", "peer", "name", down)
            for device, bridge in ((up, f"leaf{leaf}n{nic}"), (down, spine)):
                call("ip", "-n", self.switch, "link", "set", device, "master", bridge)
                call("ip", "-n", self.switch, "link", "set", device, "up")
                self._shape(self.switch, device, self.uplink_rate)

    def _plug(self, name, index, nic):
        port = f"p{index}n{nic}"
        call("ip", "-n", name, "link", "add", f"eth{nic}", "type", "veth", "peer", "name", port, "netns", self.switch)
        call("ip", "-n", name, "addr", "add", f"{self.address(index, nic)}/24", "dev", f"eth{nic}")
        call("ip", "-n", name, "link", "set", f"eth{nic}", "up")
        call("ip", "-n", self.switch, "link", "set", port, "master", f"leaf{index // self.leaf_hosts}n{nic}")
        call("ip", "-n", self.switch, "link", "set", port, "up")
        for namespace, device in ((name, f"eth{nic}"), (self.switch, port)):  # the two directions
            self._shape(namespace, device, self.rate)

    @staticmethod
    def _shape(namespace, device, rate):
        call("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency",
             "50ms")

    def _keep(self, name):
        keeper = subprocess.Popen(["ip", "netns", "exec", name, "unshare", "--ipc", "--pid", "--uts", "--fork",
                                   "--mount-proc", "--kill-child", "sh", "-c", f"hostname {name}; exec sleep 3600"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.keepers.append(keeper)
        children = pathlib.Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and keeper.poll() is None:
            pids = children.read_text(encoding="ascii").split()
            if pids and pathlib.Path(f"/proc/{pids[0]}/comm").read_text(encoding="ascii") == "sleep\n":
                self.pids.append(pids[0])
                return
            time.sleep(0.01)
        keeper.kill()
        raise CannotMakeHosts(f"host {name} did not start: {keeper.stderr.read().strip()}")

    def _remove(self):
        for keeper in self.keepers:
            keeper.kill()
            keeper.wait()
        for name in [self.host(index) for index in range(self.num_hosts)] + [self.switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def run(self, program, ranks_per_host, *arguments):
        """The report of a job of reshard_perf with so many ranks on each host, all elements right."""
        self.num_jobs += 1
        num_ranks = self.num_hosts * ranks_per_host
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            ranks = []
            try:
                for rank in range(num_ranks):
                    ranks.append(self._start(program, rank, num_ranks, ranks_per_host, [*arguments, "--json", report]))
                self._wait(ranks)
            finally:
                for rank in ranks:
                    rank.kill()
                    rank.wait()
            return json.loads(report.read_text(encoding="utf-8"))

    def _start(self, program, rank, num_ranks, ranks_per_host, arguments):
        local = {"RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_RANK": rank % ranks_per_host,
                 "MASTER_ADDR": self.address(0), "MASTER_PORT": 29600,
                 "TORCHELASTIC_RUN_ID": f"{self.prefix}/{self.num_jobs}"}
        enter = [shutil.which("nsenter"), "-t", self.pids[rank // ranks_per_host], "-n", "-i", "-p", "-m", "-u"]
        words = [str(word) for word in [*enter, program, *arguments]]
        return subprocess.Popen(words, env={**os.environ, **{key: str(value) for key, value in local.items()}},
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    @staticmethod
    def _wait(ranks):
        deadline = time.monotonic() + RUN_SECONDS
        waiting = dict(enumerate(ranks))
        while waiting:
            for number, rank in list(waiting.items()):
                if rank.poll() is None:
                    continue
                del waiting[number]
                if rank.returncode != 0:
                    raise RuntimeError(f"rank {number} ended with {rank.returncode}: {rank.stderr.read()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"ranks {sorted(waiting)} did not end within {RUN_SECONDS} s")
            time.sleep(0.01)
