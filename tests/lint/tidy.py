#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Runs clang-tidy over the library's own sources, one process per core.

usage: tidy.py ROOT BUILD_DIR     BUILD_DIR holds compile_commands.json
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

ROOMS = ("src/", "topology/", "kernels/")


def sources(root, build):
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    names = {pathlib.Path(entry["file"]).resolve() for entry in commands}
    relative = {name.relative_to(root).as_posix() for name in names if name.is_relative_to(root)}
    return sorted(name for name in relative if name.startswith(ROOMS))


def tidy(root, build, name):
    command = ["clang-tidy", "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option", name]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    names = sources(root, build)
    if not names:
        sys.exit(f"no sources of the library in {build}/compile_commands.json; configure first")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda name: tidy(root, build, name), names))
    failed = [name for name, result in zip(names, results) if result.returncode != 0]
    for result in results:
        if result.returncode != 0:
            print(result.stdout + result.stderr)
    print(f"clang-tidy: {len(names)} files, {len(failed)} with findings: {' '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
