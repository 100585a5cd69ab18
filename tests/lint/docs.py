#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The pages tell the truth, as far as a program can tell.

usage: docs.py ROOT [BIN_DIR]     BIN_DIR: the folder that has reshard_plan; without it no command is run

Of docs/*.md, README.md, CONTRIBUTING.md and examples/README.md: links to files and headings lead somewhere. Of docs/*.md:
functions and constants that they name are declared in the public headers, and names of the Python package are in it;
code under "From [FILE](...):" stands in FILE; and each command in a console block prints what the page shows. A line of
"..." there stands for any lines, and "..." at the end of a line for any end.
"""
import pathlib
import re
import subprocess
import sys

PAGES = ("docs/*.md", "README.md", "CONTRIBUTING.md", "examples/README.md")
TOOLS = {"reshard_plan", "reshard_perf"}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.S | re.M)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
QUOTE = re.compile(r"From \[[^]]*\]\(([^)]+)\):\n\n((?: *```c\n.*?^ *```\n+)+)", re.S | re.M)


def anchors(text):
    """The ids that a page's headings have."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def dead_links(page, text):
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"{link} leads to no file"
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link} leads to no heading"


def unknown_names(root, text):
    headers = "\n".join(path.read_text(encoding="utf-8") for path in (root / "include/reshard").rglob("*.h*"))
    for name in sorted(set(re.findall(r"\b(?:reshard|RESHARD)_\w*[a-zA-Z0-9]\b(?![*.])", text)) - TOOLS):
        if not re.search(rf"\b{name}\b", headers):
            yield f"{name} is in no public header"
    package = root / "src/python/reshard"
    public = (package / "__init__.py").read_text(encoding="utf-8") if package.exists() else ""
    for name in sorted(set(re.findall(r"`reshard\.(\w+)", text)) - {"h", "hpp"}):
        if not re.search(rf"\b{name}\b", public) and not (package / name).is_dir():
            yield f"reshard.{name} is not in the Python package"


def words(code):
    return " ".join(code.split())


def foreign_code(page, text):
    for name, blocks in QUOTE.findall(text):
        source = words((page.parent / name).read_text(encoding="utf-8"))
        for _indent, _language, code in FENCE.findall(blocks):
            if words(code) not in source:
                yield f"{name} does not have: {code.strip()}"


def is_shown(expected, lines):
    """Whether these are the lines, where one that ends in "..." may end in anything."""
    return len(expected) == len(lines) and all(
        line.startswith(shown[:-3]) if shown.endswith("...") else line == shown for shown, line in zip(expected, lines))


def shown_by(expected, lines):
    """Why the lines are not what is expected, or None. Each part between "..." must come in order, as it stands."""
    at = 0
    parts = [part.strip("\n").split("\n") for part in re.split(r"^\.\.\.$", expected, flags=re.M)]
    for number, part in enumerate(part for part in parts if part != [""]):
        is_first = number == 0 and parts[0] != [""]
        places = [at] if is_first else range(at, len(lines) - len(part) + 1)
        found = next((place for place in places if is_shown(part, lines[place:place + len(part)])), None)
        if found is None:
            return "\n".join(part)
        at = found + len(part)
    return None if parts[-1] == [""] or at == len(lines) else "the end behind " + lines[at - 1]


def wrong_commands(text, bin_dir):
    for _indent, language, block in FENCE.findall(text):
        if language != "console":
            continue
        command, expected = block.split("\n", 1)
        tool, *arguments = command.removeprefix("$ ").split()
        if tool not in TOOLS:
            yield f"{command}: only {sorted(TOOLS)} can be run"
            continue
        done = subprocess.run([pathlib.Path(bin_dir) / tool, *arguments], capture_output=True, text=True, check=False)
        missing = shown_by(expected, [line.rstrip() for line in done.stdout.splitlines()])
        if done.returncode or missing is not None:
            yield f"{command}: exit status {done.returncode}; it does not print\n{missing}\nbut\n{done.stdout}{done.stderr}"


def faults(root, bin_dir=None):
    for page in sorted(path for pattern in PAGES for path in root.glob(pattern)):
        text = page.read_text(encoding="utf-8")
        found = list(dead_links(page, text))
        if page.parent == root / "docs":
            found += [*unknown_names(root, text), *foreign_code(page, text)]
            found += wrong_commands(text, bin_dir) if bin_dir else []
        for fault in found:
            yield f"{page.relative_to(root)}: {fault}"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found = list(faults(pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:]))
    for fault in found:
        print(f"error: {fault}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
