#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The C declarations that the Python package gives to cffi, made from the public headers.

usage: generate_declarations.py            writes reshard/_declarations.txt
       generate_declarations.py --check    exits 1 when that file is not what the headers say (a test runs this)

cffi has no preprocessor, so what is left of a header here is what its parser takes: typedefs, structs, enums, functions
and macros that are numbers. Inline functions are left out: the package calls reshard_*_init_sized itself.
"""
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
HEADERS = FOLDER.parent.parent / "include" / "reshard"
OUTPUT = FOLDER / "reshard" / "_declarations.txt"
NAMES = ["base.h", "layout.h", "reshard.h", "reload.h"]  # each includes those before it


def declarations(header: str) -> str:
    """The declarations of one header's text."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r"^#ifdef __cplusplus$.*?^#endif$", "", text, flags=re.S | re.M)
    text = re.sub(r"^static inline[^{]*\{[^}]*\}$", "", text, flags=re.M)
    text = re.sub(r"^#(?!define RESHARD_\w+ \d+$).*$", "", text, flags=re.M)  # of macros, numbers stay
    text = text.replace("RESHARD_API ", "")
    return "".join(line.rstrip() + "\n" for line in text.splitlines() if line.strip())


def main() -> None:
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    made = "".join(declarations((HEADERS / name).read_text(encoding="utf-8")) for name in NAMES)
    if not sys.argv[1:]:
        OUTPUT.write_text(made, encoding="utf-8")
    elif set(NAMES) != {path.name for path in HEADERS.glob("*.h")}:
        sys.exit(f"the headers are {sorted(path.name for path in HEADERS.glob('*.h'))}, here they are {NAMES}")
    elif OUTPUT.read_text(encoding="utf-8") != made:
        sys.exit(f"{OUTPUT} is not what the headers say; run {pathlib.Path(__file__).name}")


if __name__ == "__main__":
    main()
