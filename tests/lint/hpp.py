#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""reshard.hpp covers the C API: it uses each function that the public headers declare, or says that it leaves it to C.

usage: hpp.py INCLUDE_DIR     the folder that has reshard/reshard.h and reshard/reshard.hpp

Functions that fill a struct with defaults are not asked for: where the layer uses the struct it calls them.
"""
import pathlib
import re
import sys

import symbols

LEFT_TO_C = re.compile(r"^/// Left to C,(.*?)(?=^///\s*$|^[^/])", re.S | re.M)
COMMENT = re.compile(r"//[^\n]*")


def faults(root):
    folder = pathlib.Path(root) / "reshard"
    headers = sorted(folder.glob("*.h"))
    wanted = {name for name in symbols.declared(headers) if not name.endswith("_init_sized")}
    layer = sorted(folder.glob("**/*.hpp"))
    code = "\n".join(COMMENT.sub("", path.read_text(encoding="utf-8")) for path in layer)
    used = set(re.findall(r"\breshard_\w+", code)) & wanted
    said = LEFT_TO_C.search((folder / "reshard.hpp").read_text(encoding="utf-8"))
    left = set(re.findall(r"\breshard_\w+", said.group(1))) if said else set()
    if not wanted or not used:
        yield f"{folder}: no function is declared, or none used"
    for name in sorted(wanted - used - left):
        yield f"{name} is neither used by reshard.hpp nor named among what it leaves to C"
    for name in sorted(left - wanted):
        yield f"{name}, which reshard.hpp leaves to C, is not declared there"
    for name in sorted(left & used - {"reshard_last_error"}):
        yield f"{name} is used, but said to be left to C"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = list(faults(sys.argv[1]))
    for text in found:
        print(f"error: {text}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
