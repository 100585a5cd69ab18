#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Breaks layout, model and plan in one place at a time and reports what no test notices. By hand; minutes per mutant.

usage: tests/mutants.py [--known] [--count 20] [--seed 1] [--room src/model] [--file NAME] [--list]

Works on a copy of the tree in build/mutants, which it builds once. A mutant changes one token of one line: a comparison,
a sign, a constant, min for max, one name of a table for the one below it. For each, the library and the tests of its
room are built and run, then the transfers between frameworks. It is noticed when the build or a test fails; what is not
stands at the end, with its line, and so does the seed. --known tries those that survived once, and for which there are
tests since, in place of random ones. Some mutants change nothing that anybody could see, as a capacity
that is only reserved: whoever reads the list decides.
"""
import argparse
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "mutants"
TESTS = {"src/layout": ["layout_test", "spec_test", "plan_test"], "src/model": ["model_test", "spec_test"],
         "src/plan": ["plan_test", "plan_oracle_test", "schedule_test", "exec_test"]}
# Pattern in a line of code, and what stands in its place.
RULES = [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
         (r" \+ 1\b", " + 2"), (r" - 1\b", " - 0"), (r" \+ ", " - "), (r" \* ", " + "), (r" && ", " || "),
         (r" \|\| ", " && "), (r"\bstd::min\b", "std::max"), (r"\bstd::max\b", "std::min"), (r"\b1\b", "2"),
         (r"\b0\b", "1"), (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"!(?=[a-z(])", "")]
# What survived before there was a test for it: file, texts and what stands in their place.
KNOWN = [
    ("src/model/moe_families.cc", [('experts.gate = "w1"', 'experts.gate = "w3"'), ('experts.up = "w3"', 'experts.up = "w1"')]),
    ("src/model/moe_families.cc", [("layer % frequency == 0", "layer + frequency > 0")]),
    ("src/model/vllm.cc", [('"routed_experts.w2_"', '"w2_"')]),
    ("src/model/vllm.cc", [('{"gate_up_proj", {"shared.gate"', '{"gate_up_projs", {"shared.gate"')]),
    ("src/model/megatron.cc", [('"mlp.experts.linear_fc1", {"experts.gate"', '"mlp.experts.linear_fc2", {"experts.gate"')]),
    ("src/layout/overlap.cc", [("runs[i].begin >= runs[i - 1].end", "runs[i].begin + 1 >= runs[i - 1].end")]),
    ("src/layout/overlap.cc", [("second.span.begin >= first.span.end", "second.span.begin + 1 >= first.span.end")]),
    ("src/layout/digest.cc", [("  hasher->add_all(placement.order);\n", "")]),
    ("src/layout/digest.cc", [("static_cast<std::int64_t>(placement.padding) + ", "")]),
]


def is_code(line):
    """Lines that decide something: no comments, includes, messages, declarations of templates."""
    text = line.strip()
    return bool(text) and not text.startswith(("//", "#", "*", "template", "namespace", "static_assert")) \
        and "fmt::format" not in text and "RESHARD_ERR" not in text


def token_mutants(name, lines):
    for number, line in enumerate(lines):
        if not is_code(line):
            continue
        code = line.split("//")[0]
        for pattern, replacement in RULES:
            for match in re.finditer(pattern, code):
                if code[:match.start()].count('"') % 2 == 0:  # not inside a string
                    yield name, number, line[:match.start()] + replacement + line[match.end():]


def table_mutants(name, lines):
    """The second name of a row of a table that two names stand in, changed for the one of the row below."""
    row = re.compile(r'^(\s*\{"[^"]+", )"([^"]+)"(\},?)$')
    for number, (line, below) in enumerate(zip(lines, lines[1:])):
        here, there = row.match(line), row.match(below)
        if here and there and here.group(2) != there.group(2):
            yield name, number, f'{here.group(1)}"{there.group(2)}"{here.group(3)}'


def all_mutants(rooms, only):
    for room in rooms:
        for path in sorted((ROOT / room).glob("*.cc")):
            name = path.relative_to(ROOT).as_posix()
            if only and only not in name:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            yield from token_mutants(name, lines)
            yield from table_mutants(name, lines)


def run(command, timeout=1200):
    try:
        return subprocess.run(command, cwd=COPY, capture_output=True, text=True, timeout=timeout, check=False).returncode
    except subprocess.TimeoutExpired:
        return -1


def prepare():
    """The copy, as the tree is now; what an earlier call built there stays."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        source, target = ROOT / name, COPY / name
        if source.exists() and (not target.exists() or target.read_bytes() != source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    if run(["cmake", "--preset", "dev", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]) != 0:
        sys.exit("the copy of the tree could not be configured; run tests/run.sh first, it installs what is needed")


def build(targets):
    return run(["cmake", "--build", "--preset", "dev", "--target", "reshard", *targets])


def is_noticed(tests):
    """Which of the tests fails first, or None."""
    for test in [*tests, "frameworks_test"]:
        if run(["ctest", "--preset", "dev", "-R", f"^{test}$"]) != 0:
            return test
    return None


def try_mutant(name, change):
    """What noticed the file's change: the compiler, a test, or None."""
    path = COPY / name
    original = path.read_text(encoding="utf-8")
    changed = change(original)
    if changed == original:
        sys.exit(f"{name} no longer has what a known mutant changes; renew KNOWN")
    path.write_text(changed, encoding="utf-8")
    tests = TESTS["/".join(name.split("/")[:2])]
    try:
        return "the compiler" if build(tests) != 0 else is_noticed(tests)
    finally:
        path.write_text(original, encoding="utf-8")


def line_changer(number, line):
    def change(text):
        lines = text.splitlines()
        lines[number] = line
        return "\n".join(lines) + "\n"
    return change


def text_changer(replacements):
    def change(text):
        for old, new in replacements:
            text = text.replace(old, new)
        return text
    return change


def choose(arguments, rooms):
    """Mutants as (what is printed, file, change of its text)."""
    if arguments.known:
        return [(f"{name}: {' '.join(new.split()) or 'without'} (was {' '.join(old.split())})", name, text_changer(texts))
                for name, texts in KNOWN for old, new in texts[:1]]
    mutants = list(all_mutants(rooms, arguments.file))
    chosen = random.Random(arguments.seed).sample(mutants, min(arguments.count, len(mutants)))
    print(f"seed {arguments.seed}: {len(chosen)} of {len(mutants)} mutants")
    return [(f"{name}:{number + 1}: {line.strip()}", name, line_changer(number, line)) for name, number, line in chosen]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", action="store_true", help="those that survived once")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--room", choices=sorted(TESTS), action="append", help="default: all of them")
    parser.add_argument("--file", default="", help="only files whose name contains this")
    parser.add_argument("--list", action="store_true", help="say what would be tried")
    arguments = parser.parse_args()
    rooms = arguments.room or sorted(TESTS)
    chosen = choose(arguments, rooms)
    if arguments.list:
        print("\n".join(said for said, _, _ in chosen))
        return
    prepare()
    tests = sorted({test for room in rooms for test in TESTS[room]})
    if build(tests) != 0 or is_noticed(tests) is not None:
        sys.exit("the tree fails its own tests; mend that first")
    survivors = []
    for said, name, change in chosen:
        noticed = try_mutant(name, change)
        print(f"{'noticed by ' + noticed if noticed else 'SURVIVES'}: {said}", flush=True)
        if not noticed:
            survivors.append(said)
    print(f"{len(survivors)} of {len(chosen)} survive\n" + "\n".join(survivors))


if __name__ == "__main__":
    main()
