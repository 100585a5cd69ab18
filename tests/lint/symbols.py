#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The shared library exports exactly the functions that the public header declares.

usage: symbols.py LIBRARY HEADER
"""
import pathlib
import re
import subprocess
import sys


def exported(library):
    listing = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listing.splitlines()}


def declared(header):
    text = pathlib.Path(header).read_text(encoding="utf-8")
    return set(re.findall(r"^RESHARD_API\b[^;(]*?\b(reshard_\w+)\s*\(", text, re.M))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    names, wanted = exported(sys.argv[1]), declared(sys.argv[2])
    if not wanted:
        sys.exit(f"{sys.argv[2]} declares no function")
    for name in sorted(wanted - names):
        print(f"error: {name} is declared but not exported")
    for name in sorted(names - wanted):
        print(f"error: {name} is exported but not declared")
    print(f"{len(wanted)} functions declared, {len(names)} symbols exported")
    sys.exit(names != wanted)


if __name__ == "__main__":
    main()
