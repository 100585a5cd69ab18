#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Doxygen's input filter: says in the reference what would stand in the headers a hundred times.

usage: filter.py FILE     prints FILE with more comments, on the same lines

In C: what every struct begins with, and its init functions. In C++: a function that says nothing of itself refers to the
function of the C API that it calls, and a field to the C struct that the comment above its own struct names.
"""
import re
import sys

C_LINES = [
    (r"^(  size_t struct_size;)$", r"\1 /**< of the struct as the caller knows it; set by its init function */"),
    (r"^(  uint32_t version;)$", r"\1 /**< of the struct; set by its init function */"),
    (r"^(RESHARD_API void reshard_\w+_init_sized\()",
     r"/** Gives the struct its defaults, writing no more than struct_size bytes: for bindings to other languages. */ \1"),
    (r"^(static inline void reshard_\w+_init\()",
     r"/** Gives the struct its defaults; to be called before its fields are set. */ \1"),
]
FIELD = re.compile(r"^  [\w:<>*, ]+ \**\w+(\(.*\))?( = [^;]*)?;$|^  void \(\*\w+\)\(.*;$")
FUNCTION = re.compile(r"^(  \[\[nodiscard\]\] (static )?|inline )Result<.*>\s(\w+::)?(\w+)\(")
CALLED = re.compile(r"\breshard_(?!\w*_init\b)(?!\w*_t\b)(?!last_error)\w+")


def called_by(lines, name):
    """The first function of the C API between the head of a function and its end, here or where it is defined."""
    for start, line in enumerate(lines):
        head = FUNCTION.match(line)
        if not head or head.group(4) != name:
            continue
        text = "\n".join(lines[start:start + 60])
        end = text.find(";") if "{" not in text[:text.find(";")].replace("{}", "") else body_end(text)
        found = CALLED.search(text[:end])
        if found:
            return found.group(0)
    return None


def body_end(text):
    """Where the first outermost pair of braces that is no default argument ends."""
    depth = 0
    for place, character in enumerate(text.replace("{}", "  ")):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "}" and depth == 0:
            return place
    return len(text)


def explain_c(line):
    for pattern, text in C_LINES:
        line = re.sub(pattern, text, line)
    return line


def explain_cpp(lines):
    struct = None  # of the C API, which the comment above this struct names
    for number, line in enumerate(lines):
        before = lines[number - 1].strip() if number else ""
        if re.match(r"^struct \w+ \{", line):
            above = [text for text in lines[max(0, number - 3):number] if text.startswith("///")]
            named = re.search(r"\breshard_\w+_t\b", " ".join(above))
            struct = named.group(0) if named else None
        if line.startswith("};"):
            struct = None
        is_bare = "///" not in line and not before.startswith("///")
        if is_bare and struct and FIELD.match(line):
            yield f"{line} ///< As in {struct}."
            continue
        head = is_bare and line.startswith("  ") and FUNCTION.match(line)
        name = head and called_by(lines[number:], head.group(4))
        yield f"/** As {name}(). */ {line}" if name else line


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().splitlines()
    print("\n".join(explain_cpp(lines) if sys.argv[1].endswith(".hpp") else map(explain_c, lines)))


if __name__ == "__main__":
    main()
