# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Finds and loads libreshard.so, and turns its statuses into exceptions.

The library is taken from $RESHARD_LIBRARY (a path), else from the folder `lib` of this package, where a wheel has it, else
from where the system's loader finds it. `ffi` and `lib` are cffi's; nothing else in the package opens the library.
"""
from __future__ import annotations

import math
import os
import pathlib
from typing import Any, Iterator

import cffi

from ._errors import error_of

VERSION = "0.2.0"
SONAME = "libreshard.so.0"
FOLDER = pathlib.Path(__file__).resolve().parent
INFINITE_US = 2**63 - 1  # RESHARD_TIMEOUT_INFINITE

ffi: Any = cffi.FFI()
ffi.cdef((FOLDER / "_declarations.txt").read_text(encoding="utf-8"))


def candidates() -> Iterator[str]:
    """Where the library may be, the first first. A path that the user gave is the only one then."""
    given = os.environ.get("RESHARD_LIBRARY")
    if given:
        yield given
        return
    bundled = FOLDER / "lib" / SONAME
    if bundled.exists():
        yield str(bundled)
    yield SONAME


def opened(path: str) -> Any:
    """The library at a path. Where the system has no UCX, that of the package libucx from PyPI is loaded first."""
    try:
        return ffi.dlopen(path)
    except OSError as problem:
        if "libuc" not in str(problem):
            raise
        try:
            import libucx  # type: ignore[import-not-found]
        except ImportError:
            raise OSError(f"{problem}; install UCX, or libucx-cu13 from PyPI") from None
        libucx.load_library()
        return ffi.dlopen(path)


def load() -> Any:
    """Raises ImportError that says what was tried, and for a library of another version."""
    problems = []
    for path in candidates():
        try:
            found = opened(path)
        except OSError as problem:
            problems.append(f"{path}: {problem}")
            continue
        version = ffi.string(found.reshard_version()).decode()
        if version.split(".")[:2] != VERSION.split(".")[:2]:  # before 1.0 a minor version may change the interface
            raise ImportError(f"{path} is reshard {version}, this package is of {VERSION}; install both of one version")
        return found
    raise ImportError("reshard: the library cannot be loaded. Set RESHARD_LIBRARY to the path of libreshard.so, or put "
                      "its folder into LD_LIBRARY_PATH. Tried " + "; ".join(problems))


lib = load()


def check(status: int) -> None:
    """Raises the exception of a status, with the library's message. Call it on the thread of the call that failed."""
    if status:
        raise error_of(status, ffi.string(lib.reshard_last_error()).decode(errors="replace"))


def struct(kind: str) -> Any:
    """A new reshard_<kind>_t with the library's defaults."""
    made = ffi.new(f"reshard_{kind}_t*")
    getattr(lib, f"reshard_{kind}_init_sized")(made, ffi.sizeof(made[0]))
    return made


def structs(kind: str, count: int) -> Any:
    """An array of `count` structs with the library's defaults; one that may be indexed at 0 also for none."""
    made = ffi.new(f"reshard_{kind}_t[]", max(1, count))
    init, size_bytes = getattr(lib, f"reshard_{kind}_init_sized"), ffi.sizeof(f"reshard_{kind}_t")
    for index in range(count):
        init(made + index, size_bytes)
    return made


def created(kind: str, function: Any, *arguments: Any) -> Any:
    """The handle that `function` gives as its last output. It is destroyed with the Python object that is returned."""
    out = ffi.new(f"reshard_{kind}_t*")
    check(function(*arguments, out))
    return ffi.gc(out[0], getattr(lib, f"reshard_{kind}_destroy"))


def value(kind: str, function: Any, *arguments: Any) -> Any:
    """The number that `function` gives as its last output, of the C type `kind`."""
    out = ffi.new(f"{kind}*")
    check(function(*arguments, out))
    return out[0]


def text_of(function: Any, *arguments: Any) -> str:
    """The string that `function` gives as its last output."""
    return text(value("const char*", function, *arguments))


def text(pointer: Any) -> str:
    return ffi.string(pointer).decode(errors="replace")


def chars(given: str | os.PathLike[str] | None) -> Any:
    """A C string that lives as long as what is returned; NULL for None."""
    if given is None:
        return ffi.NULL
    encoded = os.fsencode(given)
    if b"\0" in encoded:
        raise error_of(lib.RESHARD_ERR_INVALID_ARGUMENT, f"{given!r} has a zero character")
    return ffi.new("char[]", encoded)


def microseconds(seconds: float) -> int:
    """A timeout as the library takes it; math.inf never expires."""
    if seconds == math.inf:
        return INFINITE_US
    if not seconds > 0:
        raise error_of(lib.RESHARD_ERR_INVALID_ARGUMENT, f"timeout is {seconds} s; give more than 0, or math.inf")
    return max(1, min(INFINITE_US - 1, round(seconds * 1e6)))


def build_info() -> str:
    """One line on the library that is loaded and what was built into it."""
    return text(lib.reshard_build_info())
