#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Runs clang-tidy over the library's own sources, one process per core; those that passed as they are now are skipped.

usage: tidy.py ROOT BUILD_DIR [--alone] [--all] [--update]     BUILD_DIR holds compile_commands.json

--alone: BUILD_DIR compiles several sources as one; the commands are those of the preset dev, where each is compiled alone.

tests/data/tidy_passed.json keeps, for each source that passed, a hash of what clang-tidy saw of it: its text and that of
the project's headers that it includes, the checks, the flags, and the version of the tool. --update keeps the hashes of
those that pass now; without it the file is only read. --all skips nothing.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOMS = ("src/", "topology/", "kernels/")
KEPT = "tests/data/tidy_passed.json"
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
# A string, which is kept whole, or a comment. No source of the project has a raw string with a quote in it.
STRING_OR_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def commands_of(root, build):
    """The compile command of each source of the library, by its path in the tree, without paths of this machine."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        name = pathlib.Path(entry["file"]).resolve()
        if name.suffix == ".cu":  # clang-tidy takes neither nvcc's flags nor its headers
            continue
        if name.is_relative_to(root) and name.relative_to(root).as_posix().startswith(ROOMS):
            flags = re.sub(r"^.*?\s(?=-)", "", entry["command"])  # without the compiler and its launcher
            flags = re.sub(r"-o .*", "", flags.replace(str(build), "BUILD").replace(str(root), "ROOT"))
            found[name.relative_to(root).as_posix()] = flags
    return found


def configure_alone(root, build):
    """A folder with the compile commands of the library's sources one by one. Nothing is built there."""
    options = ("-DBUILD_TESTING=OFF", "-DRESHARD_BUILD_TOOLS=OFF")
    subprocess.run(["cmake", "--preset", "dev", "-B", str(build), *options], cwd=root, capture_output=True, check=True)
    return build


class Texts:
    """What clang-tidy sees of files: their words, without comments, unless these speak to it."""

    def __init__(self, root):
        self.root = root
        self.known = {}

    def read(self, name):
        """(text, names of the project's files that it includes), or None for a file that is not the project's."""
        if name not in self.known:
            path = self.root / name
            self.known[name] = self.parse(path.read_text(encoding="utf-8")) if path.is_file() else None
        return self.known[name]

    @staticmethod
    def parse(text):
        words = STRING_OR_COMMENT.sub(lambda found: found[0] if found[1] or "NOLINT" in found[0] else " ", text)
        return " ".join(words.split()), [name for found in INCLUDE.findall(text) for name in (found, "include/" + found)]

    def closure(self, name):
        """All files of the project that `name` includes, itself among them, in an order that does not change."""
        open_names, all_names = [name], set()
        while open_names:
            current = open_names.pop()
            if current in all_names or self.read(current) is None:
                continue
            all_names.add(current)
            open_names += self.read(current)[1]
        return sorted(all_names)


def hash_of(texts, name, flags, tool):
    digest = hashlib.sha256(f"{tool}\0{flags}".encode())
    for included in texts.closure(name):
        digest.update(f"\0{included}\0{texts.read(included)[0]}".encode())
    return digest.hexdigest()[:32]


def tidy(root, build, name):
    command = ["clang-tidy", "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option", name]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    root, build = arguments.root.resolve(), arguments.build.resolve()
    if arguments.alone:
        build = configure_alone(root, build / "alone")
    commands = commands_of(root, build)
    if not commands:
        sys.exit(f"no sources of the library in {build}/compile_commands.json; configure first")
    said = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version \S+", said)[0]  # the rest names the processor, which differs between machines
    tool = version + (root / ".clang-tidy").read_text(encoding="utf-8")
    texts = Texts(root)
    hashes = {name: hash_of(texts, name, flags, tool) for name, flags in commands.items()}
    kept_file = root / KEPT
    kept = json.loads(kept_file.read_text(encoding="utf-8")) if kept_file.exists() else {}
    names = sorted(name for name in commands if arguments.all or kept.get(name) != hashes[name])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(names, pool.map(lambda name: tidy(root, build, name), names)))
    failed = [name for name, result in results.items() if result.returncode != 0]
    for name in failed:
        print(results[name].stdout + results[name].stderr)
    if arguments.update:
        passed = {name: value for name, value in sorted(hashes.items()) if name not in failed}
        kept_file.write_text(json.dumps(passed, indent=0) + "\n", encoding="utf-8")
    print(f"clang-tidy: {len(commands)} files, {len(commands) - len(names)} unchanged since they passed, "
          f"{len(failed)} with findings: {' '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
