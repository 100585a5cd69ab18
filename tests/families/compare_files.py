#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The layout `checkpoint` of every family against the records of what the package transformers writes.

usage: compare_files.py --library LIBRESHARD.SO [--only TEXT]

Names, types and shapes must be those of the record, none more and none less; routed experts that the library has in one
tensor are taken apart. A model that the library refuses as not supported is counted and printed, unless its family is
in MUST_KNOW. Where the library is meant to differ, tests/data/families/known_differences.json says so and why; a rule
there that excuses nothing is a failure, too.
"""
import argparse
import fnmatch
import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/endtoend"))
import capi  # noqa: E402
import names  # noqa: E402

RECORDS = ROOT / "tests/data/families"
# Families that the library knows, and models of theirs that it does not.
MUST_KNOW = {"llama", "qwen3", "qwen3_moe", "mixtral", "deepseek_v3", "kimi_k2", "mistral", "qwen2", "qwen2_moe", "phi3", "gemma",
             "gemma2", "gemma3_text", "glm4", "glm4_moe", "deepseek_v2", "glm", "gpt2", "gpt_bigcode", "starcoder2", "olmo2",
             "seed_oss", "hunyuan_v1_dense", "ernie4_5", "internlm", "internlm2", "aquila", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5",
             "qwen3_5_moe",
             "deepseek_v32", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "gpt_oss", "minimax_m2", "llama4_text",
             "hunyuan_v1_moe", "ernie4_5_moe", "kimi_linear"}
MAY_REFUSE = set()
BYTES = {"BF16": 2, "F16": 2, "F32": 4}


def record_config(model):
    config = model["config"]
    return json.loads((ROOT / config).read_text(encoding="utf-8")) if isinstance(config, str) else config


def size_text(text):
    """ "BF16 [3, 4]" as "BF16, 24 bytes"."""
    dtype, _, shape = text.partition(" ")
    return f"{dtype}, {BYTES[dtype] * math.prod(json.loads(shape))} bytes"


def buffers_of(library, layout):
    """{name: "dtype [shape]"} of the buffers of rank 0; of one that holds several tensors its dtype and bytes."""
    tensors = library.tensors(layout)
    held = {}
    for block in library.blocks(layout, 0):
        held.setdefault(block.buffer, []).append(tensors[block.tensor])
    found = {}
    for number, name, size in library.buffers(layout, 0):
        ((first, dtype, shape), *others) = held[number]
        if others:
            assert len({tensor[1] for tensor in held[number]}) == 1, f"{name}: tensors of several types"
            found[name] = f"{dtype}, {size} bytes"
        else:
            text = f"{dtype} {shape}"
            assert size_text(text) == f"{dtype}, {size} bytes", f"{name}: {size} bytes for {text}"
            found[name] = text if name == first else size_text(text)
    return found


def apart(found, recorded):
    """Tensors that hold all experts as the record has them, each expert a tensor of its own."""
    out = {}
    for name, text in found.items():
        before, experts, after = name.partition(".experts.")
        dtype, _, shape = text.partition(" ")
        if name in recorded or not experts or not shape.startswith("["):
            out[name] = text
            continue
        count, *each = json.loads(shape)
        out.update({f"{before}.experts.{expert}.{after}": f"{dtype} {each}" for expert in range(count)})
    return out


def differences(found, recorded):
    """{name: "what the library has, what the record has"}."""
    out = {}
    for name in found.keys() | recorded.keys():
        ours, theirs = found.get(name), recorded.get(name)
        if ours is not None and theirs is not None and "bytes" in ours:
            theirs = size_text(theirs)
        if ours != theirs:
            out[name] = f"here {ours}, in the package {theirs}"
    return names.compress(out)


def compare(library, model):
    layout = library.layout(record_config(model), model.get("text", "checkpoint"), 0, 1)
    try:
        recorded = names.expand(model["files"])
        return differences(apart(buffers_of(library, layout), recorded), recorded)
    finally:
        library.dll.reshard_layout_destroy(layout)


def must_know(title):
    family, variant = title.split()[:2]
    return family in MUST_KNOW and f"{family} {variant}" not in MAY_REFUSE


class KnownDifferences:
    """Where the library differs: globs of what a line is about and of the difference, and the reason.

    is_debt: the library is wrong there and will be mended, after which the rule may stay for a while.
    """

    def __init__(self, path=RECORDS / "known_differences.json"):
        self.rules = json.loads(path.read_text(encoding="utf-8"))["known_differences"]
        self.used = [False] * len(self.rules)

    def have(self, line, difference):
        for index, rule in enumerate(self.rules):
            if fnmatch.fnmatchcase(line, rule["where"]) and fnmatch.fnmatchcase(difference, rule["difference"]):
                self.used[index] = True
                return True
        return False

    def unused(self, kind):
        """Rules about lines with this word that excused nothing."""
        unused = [rule for rule, used in zip(self.rules, self.used) if not used and kind in rule["where"]]
        for rule in unused:
            if rule.get("is_debt"):
                print(f"known_differences.json: {rule['where']} was mended: take the rule out")
        return [rule["where"] for rule in unused if not rule.get("is_debt")]


def judge(title, known, compare_it):
    """(outcome, lines about it) of a model, of which compare_it() gives what differs."""
    try:
        found = compare_it()
    except capi.Failure as failure:
        is_allowed = failure.is_unsupported and not must_know(title)
        return ("not known yet" if is_allowed else "failed"), [f"{title}: {failure}"]
    lines = [f"{title} {line}: {what}" for line, what in found.items() if not known.have(f"{title} {line}", what)]
    return ("failed" if lines else "known to differ" if found else "equal"), lines


class Outcomes:
    """What came of each comparison; prints failures as they come."""

    def __init__(self, is_verbose):
        self.is_verbose = is_verbose
        self.titles = {"equal": [], "known to differ": [], "not known yet": [], "failed": []}

    def add(self, title, outcome, lines):
        self.titles[outcome].append(title)
        if outcome == "failed" or self.is_verbose:
            print("".join(f"{outcome}: {line}\n" for line in lines[:20]), end="")

    def finish(self, what, unused):
        """Prints the sums; the exit status."""
        for rule in unused:
            print(f"failed: known_differences.json: nothing differs as {rule} says")
        print(f"not known yet: {', '.join(dict.fromkeys(self.titles['not known yet']))}")
        print(f"{what}: " + ", ".join(f"{len(titles)} {outcome}" for outcome, titles in self.titles.items()))
        return bool(self.titles["failed"]) or bool(unused) or not any(self.titles.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--only", default="", help="models whose \"family model\" contains this")
    arguments = parser.parse_args()
    library, known, outcomes = capi.Library(arguments.library), KnownDifferences(), Outcomes(arguments.only != "")
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for variant, model in record.get("models", {}).items():
            title = f"{record['family']} {variant}"
            if arguments.only in title:
                outcomes.add(title, *judge(f"{title} checkpoint", known, lambda: compare(library, model)))
    sys.exit(outcomes.finish("models", [] if arguments.only else known.unused(" checkpoint ")))


if __name__ == "__main__":
    main()
