# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Which driver reshard_perf's bindings get on the doubles of CUDA and NCCL: what is chosen and why, and what is refused.

Run with LD_LIBRARY_PATH at the folder of the doubles.
"""

import argparse
import json
import os
import shutil
import sys

import tool

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "perf", "specs", "tp3_to_tp4.json")
MISSING = "libnccl_of_nobody.so.2"


def run(perf, options, variables, folder):
    """(report or None, standard error)"""
    path = os.path.join(folder, "report.json")
    if os.path.exists(path):
        os.remove(path)
    env = {**os.environ, "CUDA_DOUBLE_DEVICES": "8", **variables}
    command = [perf, "--spec", SPEC, "-n", "1", "-w", "0", "--patterns", "0", "--json", path] + options
    status, _, err = tool.run_command(command, env=env)
    if status != 0:
        return None, err
    with open(path, encoding="utf-8") as file:
        return json.load(file), err


# options, variables, driver, words of the reason
CHOSEN = [
    (["--transport", "auto", "--memory", "cuda"], {}, "nccl", ["NCCL 2.28.9", "at most 6 operations", "of the host"]),
    (["--transport", "auto", "--memory", "cuda"], {"NCCL_DOUBLE_VERSION": "22907"}, "nccl", ["NCCL 2.29.7"]),
    (["--transport", "auto", "--memory", "cuda"], {"RESHARD_NCCL_LIBRARY": MISSING}, "poll", ["no NCCL", MISSING]),
    (["--transport", "auto", "--memory", "cuda"], {"CUDA_DOUBLE_DEVICES": "1"}, "poll", ["on one device"]),
    (["--transport", "auto", "--memory", "host"], {}, "poll", ["the buffers are memory of the host"]),
    (["--transport", "auto", "--memory", "cuda", "--threads"], {}, "poll", ["read each other's memory"]),
    (["--transport", "nccl", "--memory", "cuda", "--threads"], {}, "nccl", ["asked for it"]),
    (["--transport", "ucx", "--memory", "cuda"], {}, "poll", ["asked for it"]),
    (["--transport", "nccl", "--memory", "cuda", "--threads"],
     {"CUDA_DOUBLE_DEVICES": "1", "NCCL_DOUBLE_VERSION": "23203", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}, "nccl", ["2.32.3"]),
]

# options, variables, words of the error
REFUSED = [
    (["--transport", "nccl"], {}, ["give --memory cuda"]),
    (["--transport", "nccl", "--memory", "cuda"], {"RESHARD_NCCL_LIBRARY": MISSING}, [MISSING, "2.28.0 or newer"]),
    (["--transport", "nccl", "--memory", "cuda"], {"NCCL_DOUBLE_VERSION": "22707"}, ["2.27.7", "is too old"]),
    (["--transport", "nccl", "--memory", "cuda"], {"CUDA_DOUBLE_DEVICES": "1"}, ["are on one device", "2.30 or newer"]),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    args = parser.parse_args()
    folder = tool.scratch("drivers")
    failed = 0
    for options, variables, driver, words in CHOSEN:
        report, err = run(args.perf, options, variables, folder)
        found = {} if report is None else report
        reason = found.get("driver_reason", "")
        right = found.get("driver") == driver and found.get("wrong_elements") == 0 and all(w in reason for w in words)
        failed += not right
        print("%s %s %s: %s, %s%s" % ("right  " if right else "FAILED ", options, variables, found.get("driver"), reason,
                                      "" if right else "; wanted %s, %s\n%s" % (driver, words, err[-2000:])), flush=True)
    for options, variables, words in REFUSED:
        report, err = run(args.perf, options, variables, folder)
        right = report is None and all(word in err for word in words)
        failed += not right
        print("%s %s %s: refused%s" % ("right  " if right else "FAILED ", options, variables,
                                       "" if right else "; wanted %s\n%s" % (words, err[-2000:])), flush=True)
    shutil.rmtree(folder)
    print("%d failed" % failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
