# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Broken specs and files: the tool must end with an error that names the thing, never by a signal and never well.

--fuzz N mutates valid specs at random; whatever the oracle refuses the tool must refuse, and the reverse.
"""

import argparse
import copy
import json
import os
import random
import shutil
import sys

import tool

import broken_specs
import random_spec
import safetensors
import spec as spec_module


def run(perf, text, options, folder):
    """(exit status, what the tool said); raises when it died of a signal or left a result behind an error."""
    path, dump, report = (os.path.join(folder, name) for name in ("spec.json", "dump", "report.json"))
    with open(path, "wb") as file:
        file.write(text)
    shutil.rmtree(dump, ignore_errors=True)
    os.mkdir(dump)
    if os.path.exists(report):
        os.remove(report)
    status, out, err = tool.run_command(
        [perf, "--spec", path, "-n", "1", "-w", "0", "--dump", dump, "--json", report] + options)
    if status < 0 or status >= 126:
        raise tool.ToolFailure("died with status %d\n%s%s" % (status, out[-1000:], err[-3000:]))
    if status != 0 and os.listdir(dump):
        raise tool.ToolFailure("failed, but left %s" % os.listdir(dump))
    return status, err


def refuse(perf, text, words, options, folder):
    status, err = run(perf, text, options, folder)
    if status == 0:
        raise tool.ToolFailure("was accepted")
    if not err.strip():
        raise tool.ToolFailure("was refused without a word on stderr")
    missing = [word for word in words if str(word) not in err]
    if missing:
        raise tool.ToolFailure("the error does not name %s: %s" % (missing, err[-2000:]))


def broken_runs(folder):
    """(kind, words, spec, options) of errors that are not in the spec."""
    base = json.dumps(broken_specs.BASE).encode()
    src, dst = broken_specs.SRC, broken_specs.DST
    wide = json.dumps(broken_specs.changed((src + ("dtype",), "F64"), (dst + ("dtype",), "F64"),
                                           (dst + ("placements",), [{"shard": 1}]))).encode()
    for budget in ("1", "7", "0"):
        yield "staging_of_" + budget, ["staging"], wide, ["--staging", budget, "--alloc", "heap"]
    yield "staging_unreadable", ["staging"], base, ["--staging", "12Q"]
    yield "unknown_option", ["colour"], base, ["--colour", "red"]
    yield "unknown_transport", ["carrier"], base, ["--transport", "carrier"]
    data = bytes(12 * 7 * 4)
    files = {
        "load_without_the_tensor": (["weight_a"], {"other": ("F32", [12, 7], data)}),
        "load_of_another_shape": (["weight_a", "12", "7"], {"weight_a": ("F32", [7, 12], data)}),
        "load_of_another_dtype": (["weight_a", "I32"], {"weight_a": ("I32", [12, 7], data)}),
    }
    for kind, (words, tensors) in files.items():
        path = os.path.join(folder, kind)
        safetensors.write(path, tensors)
        yield kind, words, base, ["--load", path]
    good = os.path.join(folder, "good")
    safetensors.write(good, {"weight_a": ("F32", [12, 7], data)})
    with open(good, "rb") as file:
        raw = file.read()
    broken = {"load_of_nothing": b"", "load_truncated": raw[:-1], "load_header_truncated": raw[:20],
              "load_header_too_long": b"\xff" * 8 + raw[8:], "load_not_json": raw[:8] + b"[" + raw[9:],
              "load_offsets_outside": raw.replace(b"[0, 336]", b"[8, 344]"),
              "load_offsets_reversed": raw.replace(b"[0, 336]", b"[336, 0]"),
              "load_negative_shape": raw.replace(b"[12, 7]", b"[-2, 7]")}
    for kind, content in broken.items():
        path = os.path.join(folder, kind)
        with open(path, "wb") as file:
            file.write(content)
        yield kind, [], base, ["--load", path]
    yield "load_missing_file", ["nowhere"], base, ["--load", os.path.join(folder, "nowhere")]


def all_places(thing, path=()):
    yield path
    if isinstance(thing, (dict, list)):
        for key in thing if isinstance(thing, dict) else range(len(thing)):
            yield from all_places(thing[key], path + (key,))


def mutate(rng, raw):
    """One random change of one value somewhere in the spec."""
    raw = copy.deepcopy(raw)
    path = rng.choice([p for p in all_places(raw) if p])
    place = raw
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    kind = rng.choice(["number", "number", "delete", "double", "type", "swap"])
    if kind == "number" and isinstance(old, int):
        place[path[-1]] = rng.choice([old - 1, old + 1, 0, -1, 1, 2, old * 2])
    elif kind == "delete":
        del place[path[-1]]
    elif kind == "double" and isinstance(place, list):
        place.insert(path[-1], copy.deepcopy(old))
    elif kind == "type":
        place[path[-1]] = rng.choice([None, True, "x", [], {}, "replicate", {"shard": 0}, 1.5])
    elif kind == "swap" and isinstance(place, list):
        place[path[-1]], place[0] = place[0], place[path[-1]]
    return raw


def small_enough(raw):
    """No fuzzed number may ask for thousands of threads or gigabytes."""
    ranks = raw.get("ranks", 0) if isinstance(raw, dict) else 0
    return not isinstance(ranks, int) or ranks <= 64


def mangle(rng, text):
    """Random damage to the bytes of a file."""
    data = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data))
        kind = rng.choice(["flip", "cut", "repeat", "insert"])
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at:at + rng.randint(1, 20)]
        elif kind == "repeat":
            data[at:at] = data[at:at + rng.randint(1, 20)]
        else:
            data[at:at] = rng.choice([b"[", b"{", b'"', b"]", b"}", b",", b"-", b"\\u12", b"\xff", b"1e9", b"null"])
        if not data:
            break
    return bytes(data)


def verdict(text):
    try:
        spec_module.parse(text)
        return None
    except spec_module.SpecError as error:
        return str(error)


def fuzz(args, folder):
    options = ["--transport", "local"]
    for number in range(args.fuzz):
        rng = random.Random("%s:%d" % (args.seed, number))
        raw = random_spec.generate(rng.random(), 4, 200)
        if rng.random() < 0.7:
            for _ in range(rng.choice([1, 1, 2])):
                raw = mutate(rng, raw)
            text, exact = json.dumps(raw).encode(), True
        else:
            text, exact = mangle(rng, json.dumps(raw).encode()), False
        try:
            small = small_enough(json.loads(text))
        except ValueError:
            small = True
        if not small:
            continue
        try:
            status, err = run(args.perf, text, options, folder)
            reason = verdict(text) if exact else None
            if exact and (status == 0) != (reason is None):
                verdicts = status, err.strip(), reason or "valid"
                raise tool.ToolFailure("the tool says %d (%s), the oracle %s" % verdicts)
        except tool.ToolFailure as error:
            print("FAILED  fuzz seed %s case %d: %s\nkept in %s/spec.json" % (args.seed, number, error, folder))
            return 1
    print("%d fuzzed specs right" % args.fuzz)
    return 0


def fixed(args, folder):
    cases = [(kind, words, text, []) for kind, words, text in broken_specs.cases()] + list(broken_runs(folder))
    failed = 0
    for kind, words, text, options in cases:
        if "--transport" not in options:
            options = ["--transport", args.transport] + options
        try:
            refuse(args.perf, text, words, options, folder)
        except tool.ToolFailure as error:
            failed += 1
            print("FAILED  %s: %s" % (kind, error), flush=True)
    print("%d broken inputs, %d not refused as they should be" % (len(cases), failed))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", required=True)
    parser.add_argument("--transport", choices=["local", "ucx"], default="local")
    parser.add_argument("--fuzz", type=int, default=0, help="this many random mutations instead of the fixed list")
    parser.add_argument("--seed", default=None, help="drawn and printed when not given")
    args = parser.parse_args()
    folder = tool.scratch("invalid")
    if args.fuzz:
        args.seed = args.seed or str(random.SystemRandom().randrange(10**9))
        print("seed %s" % args.seed, flush=True)
    status = fuzz(args, folder) if args.fuzz else fixed(args, folder)
    if status == 0:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
