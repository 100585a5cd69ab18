#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Runs scripts one after another, each in a process that is forked after what all of them import was imported.

usage: together.py MODULE,... SCRIPT...

An import of torch takes 4 s of a core, one of vLLM 10 s: more than most of these tests. Nothing that starts threads or
loads reshard may be imported here, for UCX does not like to be forked. Ends with 1 when a script failed; with 77, which
means skipped, when none did anything else.
"""
import gc
import importlib
import os
import pathlib
import runpy
import sys
import time
import traceback

import vllm_models  # which imports nothing

SKIPPED = 77


def run(script):
    """In a process of its own: what `python SCRIPT` would do. Returns the exit status."""
    sys.argv = [script]
    sys.path[0] = str(pathlib.Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def forked(script):
    """(exit status, seconds of a core that it and its own children took)"""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = run(script)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def main():
    modules, scripts = sys.argv[1].split(","), sys.argv[2:]
    os.environ.update(vllm_models.ENVIRONMENT)
    began = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else each process goes through all that was imported, and copies its pages
    print(f"{', '.join(modules)}: imported in {time.perf_counter() - began:.1f} s, {time.process_time():.1f} s of a core",
          flush=True)
    statuses = []
    for script in scripts:
        began = time.perf_counter()
        status, core_seconds = forked(script)
        statuses.append(status)
        what = {0: "passed", SKIPPED: "skipped"}.get(statuses[-1], f"FAILED with {statuses[-1]}")
        print(f"{pathlib.Path(script).stem}: {what} in {time.perf_counter() - began:.1f} s, {core_seconds:.1f} s of a core",
              flush=True)
    if all(status in (0, SKIPPED) for status in statuses):
        return 0 if 0 in statuses else SKIPPED
    return 1


if __name__ == "__main__":
    sys.exit(main())
