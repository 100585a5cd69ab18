#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What the tools owe to a shell: output that is lost is an error, paths are bytes, --help fits and is complete.

usage: run_tools.py --plan RESHARD_PLAN --perf RESHARD_PERF
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MODELS = pathlib.Path(__file__).resolve().parents[2] / "perf" / "models"
SMALL = ["--model", "Qwen3-0.6B", "--layers", "1", "--from", "checkpoint", "--to", "checkpoint"]
PROBLEMS = []


def expect(is_right, what):
    if not is_right:
        PROBLEMS.append(what)


def run(command, **options):
    return subprocess.run(command, capture_output="stdout" not in options, check=False, **options)


def check_lost_output(tool, options):
    for words in ([*SMALL, *options], ["--help"], ["--version"]):
        with open("/dev/full", "wb") as full:
            done = run([tool, *words], stdout=full, stderr=subprocess.PIPE)
        expect(done.returncode == 1 and b"standard output" in done.stderr, f"{words} > /dev/full: {done}")
    done = run(["sh", "-c", 'exec "$@" >&-', "sh", tool, *SMALL, *options])
    expect(done.returncode == 1 and b"standard output" in done.stderr, f"{tool} >&-: {done}")


def check_closed_streams(plan, folder):
    """A file opened by a program without standard output must not become that."""
    target = folder / "closed.json"
    run(["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", plan, *SMALL, "--json", str(target)])
    expect(not target.exists(), "--json without standard output holds the report for a person")


def check_paths(plan, folder):
    name = os.fsencode(folder) + b"/b\xe4d.json"
    shutil.copy(MODELS / "Qwen3-0.6B.json", name)
    target = folder / "report.json"
    words = [name if word == "Qwen3-0.6B" else os.fsencode(word) for word in SMALL]
    done = run([os.fsencode(plan), *words, b"--json", os.fsencode(target)])
    expect(done.returncode == 0, f"a path that is not UTF-8: {done.stderr}")
    if done.returncode == 0:
        job = json.loads(target.read_text(encoding="utf-8"))["job"]
        expect("/b\\xE4d.json" in job, f"the job is {job}")


def check_early_outputs(plan, folder):
    done = run([plan, *SMALL, "--json", str(folder / "none" / "x.json")])
    expect(done.returncode == 1 and not done.stdout, f"an output that cannot be opened is found late: {done}")


def check_skipped(plan, perf, folder):
    """What only one side has: refused, or with --skip-unmatched named and left as it is, which reshard_perf checks."""
    whole = lambda ranks: {"dtype": "U8", "mesh": {"axes": [["r", len(ranks)]], "ranks": ranks}, "placements": ["replicate"]}
    tensor = lambda name, **sides: {"name": name, "group": 0, "shape": [8, 64], **sides}
    spec = folder / "one_side.json"
    spec.write_text(json.dumps({"version": 1, "ranks": 3, "tensors": [
        tensor("both", src=whole([0]), dst=whole([1, 2])), tensor("new", dst=whole([1, 2])),
        tensor("old", src=whole([0]))]}))
    for tool, options in ((plan, []), (perf, ["--transport", "local", "-n", "1"])):
        command = [tool, "--spec", str(spec)] + options
        refused = run(command, text=True)
        expect(refused.returncode != 0 and '"old"' in refused.stderr, "%s moves what one side lacks" % tool)
        skipped = run(command + ["--skip-unmatched"], text=True)
        expect(skipped.returncode == 0 and "destination, so left as they are (1): new" in skipped.stdout
               and "source, so left as they are (1): old" in skipped.stdout, "%s does not name what it skips" % tool)
        # Of two tensors on two ranks each element was compared: those of the skipped one with what was there before.
        expect(tool == plan or "checked 2048 elements: 0 wrong" in skipped.stdout, "skipped tensors are not checked")


def known(plan, words, pattern):
    """What the library lists when it is asked for something that it does not know."""
    done = run([plan, "--model", "Qwen3-0.6B", *words], text=True)
    found = re.search(pattern, done.stderr)
    expect(found is not None, f"{words}: {done.stderr}")
    return re.split(r",\s*", found.group(1).strip()) if found else []


def check_help(plan, perf):
    for tool in (plan, perf):
        text = run([tool, "--help"], text=True).stdout.replace(tool, "tool")
        wide = [line for line in text.splitlines() if len(line) > 80]
        expect(not wide, f"--help has lines over 80 columns: {wide}")
        expect("ENUM" not in text and "INT" not in text, "--help shows how it was programmed")
        words = set(re.findall(r"[\w.+-]+", text))
        wanted = known(plan, ["--from", "zzz", "--to", "checkpoint"], r"the known ones are ([\w, ]+)")
        for scheme in list(wanted):
            wanted += known(plan, ["--from", f"{scheme}:zzz=1", "--to", "checkpoint"], r"the keys of \w+ are ([\w, ]+)")
        both = ["--from", "checkpoint", "--to", "checkpoint", "--cluster"]
        wanted += known(plan, [*both, "zzz"], r"nor one of ([\w, -]+)")
        wanted += known(plan, [*both, "host:zzz=1"], r"known are ([\w, ]+)")
        wanted += [path.stem for path in MODELS.glob("*.json")]
        missing = sorted(word for word in wanted if word not in words)
        expect(len(wanted) > 30 and not missing, f"--help of {tool} lacks {missing} of {wanted}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", required=True)
    parser.add_argument("--perf", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_lost_output(arguments.plan, [])
        check_lost_output(arguments.perf, ["--transport", "local", "-n", "1", "--patterns", "0"])
        check_closed_streams(arguments.plan, folder)
        check_paths(arguments.plan, folder)
        check_early_outputs(arguments.plan, folder)
        check_skipped(arguments.plan, arguments.perf, folder)
    check_help(arguments.plan, arguments.perf)
    print("\n".join(PROBLEMS) or "all as it should be")
    sys.exit(bool(PROBLEMS))


if __name__ == "__main__":
    main()
