# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The tools, from wherever they are: `python -m reshard plan ...` is reshard_plan, `python -m reshard perf ...` reshard_perf.

usage: python -m reshard plan|perf|version [ARGUMENT...]
"""
import os
import pathlib
import shutil
import sys

FOLDER = pathlib.Path(__file__).resolve().parent


def tool(name: str) -> str:
    """The program in the package, else beside the library that $RESHARD_LIBRARY names, else on PATH."""
    beside = pathlib.Path(os.environ.get("RESHARD_LIBRARY", "/nowhere")).absolute().parent.parent / "bin" / name
    for path in (FOLDER / "bin" / name, beside):
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which(name)
    if not found:
        sys.exit(f"{name} is neither in the package nor on PATH: install the package by pip, which builds the tools, or put "
                 "the folder of an installed reshard's tools into PATH")
    return found


def main() -> None:
    if sys.argv[1:2] == ["version"]:
        from . import build_info
        print(build_info())
    elif sys.argv[1:2] in (["plan"], ["perf"]):
        path = tool(f"reshard_{sys.argv[1]}")
        os.execv(path, [path, *sys.argv[2:]])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
