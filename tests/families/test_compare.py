#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The comparisons with records find what differs, and short names lose nothing."""
import random
import unittest

import numpy as np

import boxes
import compare_files
import compare_memory
import contents
import names

SEED = random.randrange(1 << 32)


class Names(unittest.TestCase):
    def test_that_compressed_names_expand_to_themselves(self):
        rng = random.Random(SEED)
        for _ in range(300):
            values = {}
            for _ in range(rng.randrange(40)):
                expert, dense = f"a.{rng.randrange(4)}.b.{rng.randrange(12)}.c", f"a.{rng.randrange(9)}.d"
                values[rng.choice([expert, expert, dense, "norm"])] = rng.choice(["F32 [2]", "BF16 [2]"])
            self.assertEqual(names.expand(names.compress(values)), values, f"seed {SEED}")

    def test_that_a_run_of_numbers_is_one_line(self):
        found = names.compress({f"l.{layer}.e.{expert}.w": 1 for layer in (0, 1, 3) for expert in range(4)})
        self.assertEqual(found, {"l.{0-1,3}.e.{0-3}.w": 1})


class Files(unittest.TestCase):
    RECORDED = {"norm": "BF16 [4]", "l.0.experts.0.up": "BF16 [3, 4]", "l.0.experts.1.up": "BF16 [3, 4]"}

    def found(self, **changes):
        ours = {"norm": "BF16 [4]", "l.0.experts.up": "BF16 [2, 3, 4]", **changes}
        return compare_files.differences(compare_files.apart(ours, self.RECORDED), self.RECORDED)

    def test_that_stacked_experts_are_those_of_the_files(self):
        self.assertEqual(self.found(), {})

    def test_that_every_difference_is_found(self):
        self.assertEqual(list(self.found(more="BF16 [1]")), ["more"])
        self.assertEqual(list(self.found(norm="F32 [4]")), ["norm"])
        self.assertEqual(list(self.found(norm="BF16, 10 bytes")), ["norm"])
        self.assertEqual(self.found(norm="BF16, 8 bytes"), {})
        self.assertEqual(list(self.found(**{"l.0.experts.up": "BF16 [3, 3, 4]"})), ["l.{0}.experts.{2}.up"])
        self.assertEqual(list(self.found(**{"l.0.experts.up": "BF16 [2, 4, 3]"})), ["l.{0}.experts.{0-1}.up"])
        del self.RECORDED["norm"]
        self.assertEqual(list(self.found()), ["norm"])
        self.RECORDED["norm"] = "BF16 [4]"


FILES = {"norm": "BF16 [6]", "l.0.q.weight": "BF16 [6, 5]", "l.0.experts.0.up": "BF16 [3, 4]",
         "l.0.experts.1.up": "BF16 [3, 4]"}


class Memory(unittest.TestCase):
    def setUp(self):
        self.checkpoint = boxes.Checkpoint(FILES)

    def lines(self, array):
        return boxes.cut(self.checkpoint, array)  # which also paints them and compares

    def test_that_boxes_are_as_few_as_the_cut(self):
        q, up = self.checkpoint.numbers("l.0.q.weight"), self.checkpoint.numbers("l.0.experts.up")
        self.assertEqual(self.lines(q), ["6x5 = l.0.q.weight"])
        self.assertEqual(self.lines(q[2:4, 1:]), ["2x4 = l.0.q.weight from 2,1"])
        self.assertEqual(self.lines(q.T), ["5x6 = l.0.q.weight dims 1,0"])
        self.assertEqual(self.lines(np.concatenate([q[:2], 0 * q[:1], q[4:]])),
                         ["2x5 = l.0.q.weight", "1x5 at 2,0 = zeros", "2x5 at 3,0 = l.0.q.weight from 4,0"])
        self.assertEqual(self.lines(up[1:]), ["1x3x4 = l.0.experts.up from 1,0,0"])
        self.assertTrue((self.checkpoint.numbers("l.0.experts.1.up") == up[1]).all())

    def test_that_any_memory_is_told(self):
        rng = np.random.default_rng(SEED)
        for _ in range(200):
            pieces = []
            for _ in range(rng.integers(1, 5)):
                q = self.checkpoint.numbers("l.0.q.weight")
                q = q.T if rng.random() < 0.3 else q[rng.permutation(6)] if rng.random() < 0.3 else q * rng.integers(2)
                rows = np.sort(rng.integers(0, q.shape[0] + 1, 2))
                pieces.append(q[rows[0]:rows[1], :4])
            self.lines(np.concatenate(pieces))

    def test_that_vectors_of_flattened_tensors_are_runs(self):
        q, up = self.checkpoint.numbers("l.0.q.weight").ravel(), self.checkpoint.numbers("l.0.experts.up").ravel()
        vector = np.concatenate([q[7:], np.full(3, boxes.UNTOUCHED), up[:5]])
        self.assertEqual(boxes.cut_flat(self.checkpoint, vector),
                         ["23 = l.0.q.weight flat 7", "3 at 23 = untouched", "5 at 26 = l.0.experts.up flat 0"])

    def test_that_a_table_gives_back_what_was_put_in(self):
        held = {f"l.{layer}.q.weight": ("BF16", [2, 5], [f"2x5 = l.{layer}.q.weight from 2,0"]) for layer in (0, 2)}
        held.update({"l.1.mlp.experts.w2": ("F32", [1, 3], ["1x3 = zeros"]), "norm": ("F32", [6], ["6 = norm"]),
                     "l.3.mlp.a.up.weight": ("F32", [2], ["1 = l.3.mlp.a.gate.weight from 4", "1 at 1 = untouched"])})
        table = contents.Table()
        rank = table.add_rank(held)
        self.assertEqual(contents.of_rank({"lines": list(table.lines)}, rank), held)
        self.assertEqual(len(table.lines), 4)
        self.assertIn("l.*.mlp.a.up.weight F32 [2]: 1 = ~gate.weight from 4; 1 at 1 = untouched", table.lines)

    def test_that_one_element_of_another_kind_is_a_difference(self):
        same = np.arange(6)
        self.assertEqual(compare_memory.difference(("F32", same), ("F32", same)), "")
        other = same.copy()
        other[4] = 9
        self.assertIn("1 of 6", compare_memory.difference(("F32", same), ("F32", other)))
        self.assertIn("BF16", compare_memory.difference(("F32", same), ("BF16", same)))
        self.assertIn("5", compare_memory.difference(("F32", same), ("F32", same[:5])))
        self.assertTrue(compare_memory.difference(None, ("F32", same)))
        self.assertTrue(compare_memory.difference(("F32", same), None))


class Known(unittest.TestCase):
    def test_that_a_rule_excuses_what_it_says_and_must_be_needed(self):
        known = compare_files.KnownDifferences()
        known.rules = [{"where": "f small vllm:tp=2 * norm", "difference": "F32, *"},
                       {"where": "* vllm:tp=4 *", "difference": "*"}]
        known.used = [False, False]
        self.assertTrue(known.have("f small vllm:tp=2 0-1 norm", "F32, in the framework BF16"))
        self.assertFalse(known.have("f small vllm:tp=2 0-1 norm", "3 elements"))
        self.assertFalse(known.have("f small vllm:tp=2 0-1 norms", "F32, in the framework BF16"))
        self.assertEqual(known.unused(" vllm:"), ["* vllm:tp=4 *"])
        self.assertEqual(known.unused(" checkpoint "), [])
        known.rules[1]["is_debt"] = True
        self.assertEqual(known.unused(" vllm:"), [])


if __name__ == "__main__":
    print(f"seed {SEED}")
    unittest.main()
