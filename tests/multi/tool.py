# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Runs reshard_perf on a spec and proves its dump and its report with the oracle."""

import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))

import check_dump  # noqa: E402
import elements  # noqa: E402
import safetensors  # noqa: E402
import spec as spec_module  # noqa: E402

HANG_SECONDS = 120  # no run here takes a tenth of it


class ToolFailure(Exception):
    pass


def run_command(command, timeout=HANG_SECONDS, env=None):
    """(exit status, stdout, stderr); a command that hangs is killed with its children and a ToolFailure."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=env, start_new_session=True)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise ToolFailure("no end after %d s: %s\n%s" % (timeout, " ".join(command), err.decode(errors="replace")))
    out, err = out.decode(errors="replace"), err.decode(errors="replace")
    if re.search(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: ", err):
        raise ToolFailure("a sanitizer reports: %s\n%s" % (" ".join(command), err[-8000:]))
    return process.returncode, out, err


def report_value(report, key):
    """The value of a documented key; a dot is a nested object."""
    value = report
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ToolFailure("the report has no key %r" % key)
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ToolFailure("the report's %s is %r, not a number" % (key, value))
    return value


def received_bytes(spec):
    """Per rank the least and the most bytes that it must receive: each element once, or as often as it stands there."""
    least, most = [0] * spec.num_ranks, [0] * spec.num_ranks
    for tensor in spec.tensors:
        wire = min(elements.SIZE_BYTES[tensor.src.dtype], elements.SIZE_BYTES[tensor.dst.dtype])
        for rank in tensor.dst.ranks:
            here = set(tensor.src.global_indices(rank)) if rank in tensor.src.ranks else set()
            foreign = [i for i in tensor.dst.global_indices(rank) if i not in here]
            least[rank] += wire * len(set(foreign))
            most[rank] += wire * len(foreign)
    return least, most


def best_senders(spec):
    """Bytes that the busiest sender must send however the replicas share the work; 0 for more than 10 senders.

    The ranks of a set S must send all that only they hold, so one of them sends at least the mean over S; the largest
    such mean over all S is also reached (Hall's theorem, in fractions of a byte).
    """
    needed = collections.Counter()  # set of holders, as bits -> bytes
    for tensor in spec.tensors:
        wire = min(elements.SIZE_BYTES[tensor.src.dtype], elements.SIZE_BYTES[tensor.dst.dtype])
        holders = collections.Counter()
        for rank in tensor.src.ranks:
            for index in set(tensor.src.global_indices(rank)):
                holders[index] |= 1 << rank
        for rank in tensor.dst.ranks:
            for index in set(tensor.dst.global_indices(rank)):
                if not holders[index] >> rank & 1:
                    needed[holders[index]] += wire
    senders = 0
    for held_by in needed:
        senders |= held_by
    best, subset = 0, senders if bin(senders).count("1") <= 10 else 0
    while subset:
        only_here = sum(size for held_by, size in needed.items() if held_by & ~subset == 0)
        best = max(best, only_here / bin(subset).count("1"))
        subset = (subset - 1) & senders
    return best


PLAN_KEYS = ["planning_seconds", "peak_rss_bytes", "bundles", "messages", "bytes_crossed", "staging_bytes",
             "senders.max_bytes", "senders.mean_bytes", "receivers.max_bytes", "receivers.mean_bytes",
             "receivers.bound_bytes"]
LIVE_KEYS = ["wrong_elements", "run_seconds.median", "run_seconds.p99"]


def check_report(report, spec, staging_bytes, live=True, has_machine=False):
    value = {key: report_value(report, key) for key in PLAN_KEYS + (LIVE_KEYS if live else [])}
    least, most = received_bytes(spec)

    def hold(condition, text):
        if not condition:
            raise ToolFailure("%s does not hold in the report %r" % (text, value))

    hold(all(v >= 0 for v in value.values()), "no value below 0")
    hold(value["peak_rss_bytes"] > 0, "peak_rss_bytes > 0")
    hold(value["staging_bytes"] <= staging_bytes, "staging_bytes <= %d" % staging_bytes)
    hold(value["messages"] >= sum(n > 0 for n in least), "a message for every receiver")
    hold((value["bytes_crossed"] > 0) == (value["messages"] > 0), "messages just when bytes crossed")
    if live:
        hold(value["wrong_elements"] == 0, "wrong_elements == 0")
        hold(value["run_seconds.median"] <= value["run_seconds.p99"], "median <= p99")
    if has_machine:  # relays pass bytes on, also through ranks that do not want them
        hold(sum(least) <= value["bytes_crossed"], "%d <= bytes_crossed" % sum(least))
        hold(report["estimate_seconds"] >= report["bound_seconds"] * (1 - 1e-9), "estimate >= bound")
        return
    hold(sum(least) <= value["bytes_crossed"] <= sum(most), "%d <= bytes_crossed <= %d" % (sum(least), sum(most)))
    hold(max(least) <= value["receivers.max_bytes"] <= max(most),
         "%d <= receivers.max_bytes <= %d" % (max(least), max(most)))
    hold(value["receivers.bound_bytes"] == max(least), "receivers.bound_bytes == %d" % max(least))
    for side in ("senders", "receivers"):
        hold(value[side + ".mean_bytes"] <= value[side + ".max_bytes"] <= value["bytes_crossed"], side + " mean <= max")
    best = best_senders(spec)
    if best:  # to within one element, the largest of which has 8 bytes
        hold(best <= value["senders.max_bytes"] <= 1.05 * best + 8, "senders.max_bytes within 5 %% of %d" % best)


def parse_bytes(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def write_load_file(spec, path, seed):
    """Random bits for every source tensor; where they convert, numbers near each limit of the formats are frequent."""
    rng = random.Random(seed)
    special = {"F32": [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x3F808000, 0x3F818000,
                       0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x00000001, 0x7F7FFFFF, 0x387FE000],
               "BF16": [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x4780, 0x3300, 0x3380, 0x0001, 0x7F7F],
               "F16": [0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x0001, 0x03FF, 0x7BFF, 0x3555]}
    tensors = {}
    for tensor in spec.tensors:
        dtype = tensor.src.dtype
        size = elements.SIZE_BYTES[dtype]
        values = []
        for _ in range(tensor.num_elements):
            if dtype == "BOOL":
                bits = rng.getrandbits(1)
            elif dtype in special and rng.random() < 0.3:
                bits = rng.choice(special[dtype])
            elif dtype == "F32" and rng.random() < 0.5:
                bits = rng.getrandbits(1) << 31 | rng.randrange(96, 146) << 23 | rng.getrandbits(23)
            else:
                bits = rng.getrandbits(8 * size)
            values.append(bits.to_bytes(size, "little"))
        tensors[tensor.name] = (dtype, tensor.shape, b"".join(values))
    safetensors.write(path, tensors)


def check_run(perf, raw, options, folder, load_seed=None):
    """Runs one spec, given as an object, in a folder of its own; returns the report or raises."""
    spec = spec_module.Spec(raw)
    paths = {name: os.path.join(folder, name) for name in ("spec.json", "report.json", "load.safetensors", "dump")}
    for path in paths.values():
        shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    with open(paths["spec.json"], "w", encoding="utf-8") as file:
        json.dump(raw, file, indent=1)
    os.mkdir(paths["dump"])
    command = [perf, "--spec", paths["spec.json"], "-n", "2", "-w", "1", "--check", "1", "--dump", paths["dump"],
               "--json", paths["report.json"]] + options
    load_file = None
    if load_seed is not None:
        load_file = paths["load.safetensors"]
        write_load_file(spec, load_file, load_seed)
        command += ["--load", load_file]
    with open(os.path.join(folder, "command.txt"), "w", encoding="utf-8") as file:
        file.write(" ".join(command) + "\n")
    status, out, err = run_command(command)
    if status != 0:
        raise ToolFailure("exit status %d\n%s%s" % (status, out[-2000:], err[-4000:]))
    try:
        check_dump.check(spec, paths["dump"], load_file)
        with open(paths["report.json"], encoding="utf-8") as file:
            report = json.load(file)
    except (check_dump.DumpError, safetensors.FormatError, OSError, ValueError) as error:
        raise ToolFailure(str(error))
    staging = parse_bytes(options[options.index("--staging") + 1]) if "--staging" in options else 64 << 20
    check_report(report, spec, staging, has_machine="--cluster" in options)
    return report


def check_plan(plan, report, folder, options):
    """reshard_plan on the spec that check_run left in the folder foretells what the live run reported."""
    paths = [os.path.join(folder, name) for name in ("spec.json", "plan.json")]
    status, out, err = run_command([plan, "--spec", paths[0], "--json", paths[1]] + [
        option for option in options if option not in ("--alloc", "heap", "default")])
    if status != 0:
        raise ToolFailure("reshard_plan: exit status %d\n%s%s" % (status, out[-2000:], err[-4000:]))
    with open(paths[1], encoding="utf-8") as file:
        planned = json.load(file)
    for key in PLAN_KEYS[2:]:  # the first two are of the process, not of the plan
        on_paper, live = report_value(planned, key), report_value(report, key)
        if on_paper != live:
            raise ToolFailure("%s: %s on paper, %s live" % (key, on_paper, live))


def scratch(prefix):
    return tempfile.mkdtemp(prefix="reshard_" + prefix + "_")
