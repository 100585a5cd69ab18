#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Checks of the source tree that a compiler does not make.

usage: checks.py CHECK ROOT       one of: includes, spdx, words, sizes

Prints one line per finding and exits 1 when there is an error among them. tests/lint/checks_test.py proves that each
check can fail.
"""
import pathlib
import re
import sys

TOP_FOLDERS = ["include", "src", "topology", "kernels", "perf", "examples", "tests"]
CODE_SUFFIXES = {".h", ".hpp", ".c", ".cc", ".cu", ".cuh"}
SCRIPT_SUFFIXES = {".py", ".sh", ".cmake"}
TEXT_SUFFIXES = CODE_SUFFIXES | SCRIPT_SUFFIXES | {".md", ".txt", ".in", ".json", ".xml"}

# Which room may include which, besides itself, the public headers and src/base.
ROOMS = {
    "src/base": set(),
    "src/layout": set(),
    "src/model": {"src/layout"},
    "topology": set(),
    "src/plan": {"src/layout", "topology"},
    "src/plan/report": {"src/plan", "src/layout", "topology"},
    "kernels": set(),
    "kernels/cuda": {"kernels"},
    "src/device": set(),
    "src/transport": {"src/device"},
    "src/transport/nccl": {"src/transport", "src/device"},
    "src/exec": {"src/plan", "src/layout", "kernels", "kernels/cuda", "src/transport", "src/transport/nccl",
                 "src/device"},
    "src/reload": {"src/plan", "src/layout", "kernels", "src/transport", "src/device", "src/exec"},
    "src/api": {"src/model", "src/plan", "src/plan/report", "src/layout", "src/exec", "src/reload", "src/transport",
                "src/transport/nccl", "src/device", "kernels", "topology"},
}
PUBLIC_HEADERS = "include/reshard/"

# Headers of these that the library includes, and where it may: what a build may lack is behind one room's wall.
FOREIGN_HEADERS = {
    r"nccl\.h": {"src/transport/nccl"},
    r"cuda.*\.h": {"src/device", "kernels/cuda"},
    r"uc[pst]/.*": {"src/transport"},
}

# pattern, folders it must not occur in, files that may, what to do instead
LIBRARY = ["src", "topology", "kernels", "include"]
NO_OUTPUT = "return a Status; the library never prints or ends the process"
CODE_WORDS = [  # outside comments and strings
    (r"\bgoto\b", TOP_FOLDERS, (), "return early, or let a destructor clean up"),
    (r"\b(secure_)?getenv\b", LIBRARY, ("src/api/config.cc",), "read variables in src/api/config.cc only"),
    (r"\b(printf|puts|putchar|abort|exit|_exit)\s*\(", LIBRARY, (), NO_OUTPUT),
    (r"\bstd::(cout|cerr|clog|abort|exit|terminate)\b", LIBRARY, (), NO_OUTPUT),
    (r"\bfmt::print\b", LIBRARY, (), NO_OUTPUT),
]
TEXT_WORDS = [  # anywhere
    (r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", TOP_FOLDERS, (), "write TODO(#number) with the number of an open issue"),
    (r"(?<![\w.$}])/(?:home|Users|work)/", TOP_FOLDERS, (), "no paths of one machine in the tree"),
]
# The checks name what they forbid.
EXEMPT = {"tests/lint/checks.py", "tests/lint/checks_test.py"}

# Warned from the first number on, refused from the second.
FILE_LINES = (500, 800)
HEADER_LINES = (600, 800)  # the public headers are half comments
FUNCTION_LINES = (60, 100)


def files(root, suffixes, folders=TOP_FOLDERS):
    """Paths relative to root of the files that have one of the suffixes, in a fixed order."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix()


def read(root, name):
    return (root / name).read_text(encoding="utf-8")


def room_of(name):
    """The innermost room that the file lies in, or None."""
    return max((room for room in ROOMS if name.startswith(room + "/")), key=len, default=None)


def refused_include(name, included):
    """Why the file may not include this, or None."""
    if f"include/{included}".startswith(PUBLIC_HEADERS):
        return None
    room, target = room_of(name), room_of(included)
    if name.startswith("include/"):
        return "public headers include only the standard library and each other"
    if name.startswith("perf/"):
        inside = included.startswith("perf/") or pathlib.Path(name).name.startswith("bench_")
        return None if inside else "tools use the public headers only"
    if name.startswith("examples/"):
        return "examples include what an installed package has: the public headers"
    if room is None:
        return None
    if target is None:
        return "quoted includes are written from the root of the tree and stay in the rooms"
    if target in ROOMS[room] | {room, "src/base"}:
        return None
    return f"{room} may include only {', '.join(sorted(ROOMS[room] | {room, 'src/base'}))}"


def refused_foreign(name, included):
    """Why the file may not include this header of somebody else's, or None."""
    for pattern, rooms in FOREIGN_HEADERS.items():
        if room_of(name) and room_of(name) not in rooms and re.fullmatch(pattern, included):
            return f"only {', '.join(sorted(rooms))} may"
    return None


def includes(root):
    for name in files(root, CODE_SUFFIXES):
        for number, line in enumerate(read(root, name).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            refused = match and (refused_include if match.group(1) == '"' else refused_foreign)
            reason = match and refused(name, match.group(2))
            if reason:
                yield True, f"{name}:{number}: includes {match.group(2)}: {reason}"


def spdx(root):
    for name in files(root, CODE_SUFFIXES | SCRIPT_SUFFIXES):
        head = "\n".join(read(root, name).splitlines()[:3])
        if "SPDX-License-Identifier: Apache-2.0" not in head or "SPDX-FileCopyrightText: " not in head:
            yield True, f"{name}:1: the first lines must hold the two SPDX tags"


def blank(text):
    """The text with comments, strings, characters and directives replaced by spaces, line breaks kept."""
    pattern = (r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''
               r"|^[ \t]*#(?:\\\n|[^\n])*")
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group(0)), text, flags=re.S | re.M)


def found_words(root, table, suffixes, prepare):
    for pattern, folders, allowed, advice in table:
        for name in files(root, suffixes, folders):
            if name in allowed or name in EXEMPT:
                continue
            for number, line in enumerate(prepare(read(root, name)).splitlines(), 1):
                match = re.search(pattern, line)
                if match:
                    yield True, f"{name}:{number}: {match.group(0)!r}: {advice}"


def words(root):
    yield from found_words(root, CODE_WORDS, CODE_SUFFIXES, blank)
    yield from found_words(root, TEXT_WORDS, TEXT_SUFFIXES, str)


def functions(text):
    """(first line, last line) of every function body; an outermost brace behind a parameter list starts one."""
    text = blank(text)
    depth_of_function, depth, first, head = None, 0, 0, 0
    for position, character in enumerate(text):
        if character == "{":
            opens = re.search(r"\)\s*(const|noexcept|override|final|->\s*[\w:<>*&, ]+|:\s*[^;{}]*)*\s*$",
                              text[head:position])
            if depth_of_function is None and opens:
                depth_of_function = depth
                first = text.count("\n", 0, head + re.match(r"\s*", text[head:]).end()) + 1
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == depth_of_function:
                depth_of_function = None
                yield first, text.count("\n", 0, position) + 1
        if character in "{};":
            head = position + 1


def sizes(root):
    for name in files(root, CODE_SUFFIXES):
        text = read(root, name)
        lines = text.count("\n")
        most = HEADER_LINES if name.startswith(PUBLIC_HEADERS) else FILE_LINES
        if lines > most[0]:
            yield lines > most[1], f"{name}:1: {lines} lines; split files above {most[0]}"
        for first, last in functions(text):
            length = last - first + 1
            if length >= FUNCTION_LINES[0]:
                yield (length >= FUNCTION_LINES[1],
                       f"{name}:{first}: function of {length} lines; split at {FUNCTION_LINES[0]}")


CHECKS = {"includes": includes, "spdx": spdx, "words": words, "sizes": sizes}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in CHECKS:
        sys.exit(__doc__)
    findings = list(CHECKS[sys.argv[1]](pathlib.Path(sys.argv[2])))
    for is_error, text in findings:
        print(f"{'error' if is_error else 'warning'}: {text}")
    sys.exit(any(is_error for is_error, _ in findings))


if __name__ == "__main__":
    main()
