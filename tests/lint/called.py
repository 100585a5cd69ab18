#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Every function that the shared library exports is called by a test: some test program asks the library for it.

usage: called.py LIBRARY PROGRAM...
"""
import subprocess
import sys


def symbols(path, which):
    listing = subprocess.run(["nm", "-D", which, path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in listing.splitlines()}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    exported = symbols(sys.argv[1], "--defined-only")
    called = set().union(*(symbols(program, "--undefined-only") for program in sys.argv[2:]))
    for name in sorted(exported - called):
        print(f"error: no test calls {name}")
    print(f"{len(exported & called)} of {len(exported)} functions are called")
    sys.exit(not exported or not exported <= called)


if __name__ == "__main__":
    main()
