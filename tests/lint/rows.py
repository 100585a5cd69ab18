#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""src/model/ROWS.md: what systems that move weights need, who needs it, the text that says it, its tests and their state.

usage: rows.py MODEL_TEST ROOT [--update]

The rows are listed here; the rest comes from a run of the tests SemanticsTest.RowNN_*, which record the layout texts that
they try. A row without such a test may name tests elsewhere in the tree, which must exist. Without --update the file must
be what this gives, and all of those tests must pass.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# M: MindSpeed-RL's weight container; F: verl's loaders for FSDP; G: verl's generator for Megatron; L: vLLM's layerwise
# reload; mcore: Megatron-Core's own layouts.
ROWS = """
1|Tensor parallel ranks merge|M, G
2|Tensor parallel ranks split|M
3|Sizes that do not divide each other|M refuses
4|Uneven and empty shards|F
5|The dim that is cut differs by parameter|F
6|Row blocks to column blocks|F
7|FSDP1's flat units|F, after gathering
8|Replicas of hybrid sharding|F refuses
9|FSDP over tensor parallelism|F refuses
10|Replicated parameters|all
11|Gate and up fused, their biases, MLPs without gate|M, F, G
12|Gate and up interleaved by blocks|mcore
13|Queries, keys and values in groups or apart|M, G
14|Keys and values repeated over ranks|F
15|Fewer query groups than ranks|mcore
16|Biases of queries, keys and values|M, F
17|Gated attention|mcore
18|Latent down-projections: whole, cut, fused|M
19|Latent up-projections by heads|M
20|Latent up-projections in four parts|M
21|Tensors derived from others after arrival|M, L
22|Every layer from the stage that has it|M, G
23|Virtual stages|M, G
24|Uneven stages|M
25|No-op layers|M, in part
26|Stages of servers|M refuses
27|Vision towers, and layers for multi-token prediction, with stages of their own|M, in part
28|Expert-parallel ranks grow|M
29|They shrink, in any ratio, unevenly|M refuses
30|Experts over tensor parallel ranks|M
31|Whole experts to parts of all experts|M, L
32|Parts of experts to whole experts|G
33|Transposed experts of a grouped tensor|M
34|Experts as parameters, modules, stacks|F, G
35|No expanded copies of experts|M
36|Redundant experts by tables|M
37|Replicas of servers and of attention|M
38|Shared experts|M
39|Routers and their fp32 bias|M, G
40|Padded vocabularies|F, L
41|Tied embeddings|M, F, L
42|Tensors that one side lacks|F, M
43|Every element exactly once|F, L
44|Groups in the caller's order|F, L
45|Bounded memory|F, L, M
46|In place, through stable pointers|L
47|Strided and shared memory|M, F
48|A type of its own on each side|all
49|Several types in one model|M
50|Quantisation with scales|L, G
51|Host and device memory|F, M
52|LoRA adapters|M, F
53|Hashes end to end|M
54|Plans that run again and again|all
"""
ELSEWHERE = {
    21: ["examples/reload.c", "ReloadApiTest.OutputsAreMadeOfLayersInScratchOfAsManyAsMayBeOpen"],
    35: ["RelayTest.ContiguousRelaysNeedNoStagingAndSendWhatTheyReceive", "RunTest.ContiguousWindowsNeedNoStaging"],
    42: ["UnmatchedTest.AreListedWhenSkippedAlsoBySavedPlans",
         "UnmatchedSidesTest.ABiasThatTheServerHasNoParameterForIsRefused"],
    43: ["PlanErrorTest.AnElementNoSourceHoldsIsNamedWithBoxAndRank",
         "PlanErrorTest.DestinationBlocksThatOverlapAreRefusedExactly", "ManifestTest.PiecesAreWhatTheRankHasAndNoMore"],
    44: ["LateTest.GroupsCompleteSinglyAndTheNextRunIsRight", "RelayTest.ClosedGroupsWaitForOpenOnes"],
    45: ["PlanErrorTest.StagingBelowOneElementEachWayIsRefused", "RunTest.ContiguousWindowsNeedNoStaging"],
    46: ["tests/endtoend/run_frameworks.py", "ReloadLawTest.LayersAreCompleteOrUnchangedAndChangeInCommitAlone"],
    47: ["RowsTest.StridedCopiesMoveEveryElementSize"],
    50: ["QuantisedTextTest.ScalesAreFusedAsVllmFusesThem", "tests/endtoend/run_quantised.py"],
    51: ["tests/endtoend/run_frameworks.py", "DeviceCountsTest.ASecondRunUploadsAndAllocatesNothing"],
    53: ["VerifyTest.AFlippedBitIsFoundAndItsTensorAndRankAreNamed", "VerifyTest.TwoRowsThatChangedPlacesAreFound"],
    54: ["DeviceCountsTest.ASecondRunUploadsAndAllocatesNothing", "SaveTest.HowManyMessagesAreInFlightIsPartOfTheHash"],
}
MOST_TEXTS = 3
HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- SPDX-FileCopyrightText: The reshard authors -->
# What systems need of layouts, row by row

Made by `tests/lint/rows.py` from a run of the tests; a test compares it. M is MindSpeed-RL's weight container, F verl's
loaders for FSDP, G verl's generator for Megatron, L vLLM's layerwise reload, mcore Megatron-Core. Texts are the first
that the row's tests try. State: *passes*, with the number of tests `SemanticsTest.RowNN_*`; *elsewhere*, where the tests
named stand in other rooms; *none*.

| row | what | who needs it | text | tests | state |
|---|---|---|---|---|---|
"""


def run(model_test):
    """{row: [(name, passed, texts)]} of a run of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        subprocess.run([model_test, "--gtest_filter=SemanticsTest.*", f"--gtest_output=json:{path}"],
                       stdout=subprocess.DEVNULL, check=False)
        suites = json.loads(path.read_text(encoding="utf-8"))["testsuites"]
    rows = collections.defaultdict(list)
    for test in (test for suite in suites for test in suite["testsuite"]):
        row = int(re.fullmatch(r"Row(\d+)_\w+", test["name"]).group(1))
        passed = test["status"] == "RUN" and "failures" not in test
        rows[row].append((test["name"], passed, test.get("texts", "").split()))
    return rows


def exists(root, test):
    """Whether a test of this name is in the tree: Suite.Name of a C++ one, or the path of a script."""
    if "/" in test:
        return (root / test).is_file()
    suite, name = test.split(".")
    pattern = re.compile(rf"^(TEST(_F|_P)?|RC_GTEST_PROP)\({suite}, {name}[,)]", re.MULTILINE)
    return any(pattern.search(path.read_text(encoding="utf-8")) for path in (root / "tests").rglob("*_test.cc"))


def shown(texts):
    """A few of them, each kind of layout and each key once if that is possible, without paths."""
    texts = [re.sub(r"eplb=[^,]+", "eplb=FILE", text) for text in texts]
    found, seen = [], set()
    for text in texts:
        words = {re.split("[:=]", text)[0]} | {item.split("=")[0] for item in text.partition(":")[2].split(",")}
        if len(found) < MOST_TEXTS and not words <= seen:
            found.append(text)
            seen |= words
    return ", ".join(f"`{text}`" for text in found)


def table(rows, root):
    """(text of the file, what is wrong)."""
    lines, faults = [], []
    for line in ROWS.strip().splitlines():
        number, what, who = line.split("|")
        tests, others = rows.pop(int(number), []), ELSEWHERE.get(int(number), [])
        faults += [f"{name} fails" for name, passed, _ in tests if not passed]
        faults += [f"row {number} names {test}, which is not there" for test in others if not exists(root, test)]
        names = ", ".join(f"`{name}`" for name in [name.partition("_")[2] for name, _, _ in tests] + others)
        state = f"passes ({len(tests)})" if tests else "elsewhere" if others else "none"
        texts = shown([text for _, _, texts in tests for text in texts])
        lines.append(f"| {number} | {what} | {who} | {texts} | {names} | {state} |")
    faults += [f"there is no row {number}" for number in rows]
    return HEAD + "\n".join(lines) + "\n", faults


def main():
    model_test, root = sys.argv[1], pathlib.Path(sys.argv[2])
    path = root / "src/model/ROWS.md"
    text, faults = table(run(model_test), root)
    if "--update" in sys.argv[3:]:
        path.write_text(text, encoding="utf-8")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        faults.append(f"{path} is not what the tests give: tests/lint/rows.py MODEL_TEST ROOT --update")
    print("\n".join(faults) if faults else "the table of rows is what the tests give")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
