#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The shared library exports exactly the functions that the public headers declare.

usage: symbols.py LIBRARY HEADER...
"""
import pathlib
import re
import subprocess
import sys


def exported(library):
    listing = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listing.splitlines()}


def declared(headers):
    text = "\n".join(pathlib.Path(header).read_text(encoding="utf-8") for header in headers)
    return set(re.findall(r"^RESHARD_API\b[^;(]*?\b(reshard_\w+)\s*\(", text, re.M))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    names, wanted = exported(sys.argv[1]), declared(sys.argv[2:])
    if not wanted:
        sys.exit(f"{' '.join(sys.argv[2:])}: no function is declared")
    for name in sorted(wanted - names):
        print(f"error: {name} is declared but not exported")
    for name in sorted(names - wanted):
        print(f"error: {name} is exported but not declared")
    print(f"{len(wanted)} functions declared, {len(names)} symbols exported")
    sys.exit(names != wanted)


if __name__ == "__main__":
    main()
