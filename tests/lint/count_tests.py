#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Sums the test cases of JUnit files, names the longest and shows what those that failed said; exits 1 when one failed
or none passed.

usage: count_tests.py FILE...
"""
import pathlib
import re
import sys
import xml.etree.ElementTree


MOST_LINES = 60
TELLING = re.compile(r"FAILED|Failure|ERROR|[Ee]rror:|Falsifiable|RC_PARAMS|Traceback|Expected|Which is|Actual|exception")


def told(case):
    """Of what a test printed the lines that tell why it failed, and its end: logs are often kept in part."""
    lines = (case.findtext("system-out") or "").splitlines()
    end = len(lines) - MOST_LINES // 3
    telling = [line for line in lines[:max(end, 0)] if TELLING.search(line)]
    return [line[:300] for line in telling[:MOST_LINES - MOST_LINES // 3] + lines[max(end, 0):]]


def is_skip(case):
    """A test that chose not to run; one that could not be run is a failure."""
    skipped = case.find("skipped")
    return case.get("status") == "disabled" or (skipped is not None and skipped.get("message", "").startswith("SKIP_"))


def main():
    passed, failed, seconds = 0, [], []
    for name in sys.argv[1:]:
        if not pathlib.Path(name).exists():
            continue
        preset = pathlib.Path(name).stem
        for case in xml.etree.ElementTree.parse(name).iter("testcase"):
            seconds.append((float(case.get("time", 0)), f"{preset}: {case.get('name')}"))
            if case.get("status") == "run":
                passed += 1
            elif not is_skip(case):
                failed.append((f"{preset}: {case.get('name')}", told(case)))
    longest = sorted(seconds, reverse=True)[:15]
    print("longest: " + ", ".join(f"{name} {time:.0f} s" for time, name in longest))
    for name, said in failed:
        print(f"failed: {name}", *said, sep="\n    ")
    for name, _ in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(bool(failed) or passed == 0)


if __name__ == "__main__":
    main()
