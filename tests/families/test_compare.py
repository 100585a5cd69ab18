#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The comparisons with records find what differs, and short names lose nothing."""
import random
import unittest

import compare_files
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


if __name__ == "__main__":
    print(f"seed {SEED}")
    unittest.main()
