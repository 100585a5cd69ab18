#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Reloads from Python: layers in scratch, outputs, where they stay, and loops that are left."""
import ctypes
import sys
import unittest

import numpy as np

import reshard
from test_runs import checked, on_ranks

LAYERS, ROWS, COLUMNS = 5, 6, 1000


def plan(**options):
    """Rank 0 holds every layer's tensor whole; ranks 1 and 2 have half of its rows each, in a buffer per layer."""
    src, dst = reshard.LayoutBuilder(3), reshard.LayoutBuilder(3)
    for layer in range(LAYERS):
        for builder, ranks, rule in ((src, [0], reshard.Replicate()), (dst, [1, 2], reshard.Shard(0))):
            builder.tensor(f"layer{layer}", (ROWS, COLUMNS), "F32", layer)
            builder.place(f"layer{layer}", ranks, [rule])
    return reshard.plan(src.build(), dst.build(), **options)


def values(layer, step):
    return np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) + 10000 * layer + 100000 * step


def mine(rank, layer, step):
    return values(layer, step)[(rank - 1) * ROWS // 2:rank * ROWS // 2]


def array_of(memory):
    raw = (ctypes.c_char * memory.size_bytes).from_address(memory.ptr)
    return np.frombuffer(raw, np.float32).reshape(-1, COLUMNS)


class ReloadTest(unittest.TestCase):
    def source(self, comm, step, arrays):
        for name, array in arrays.items():
            array[:] = values(int(name[-1]), step)

    def test_layers_land_in_scratch_of_few_and_are_committed_to_where_they_stay(self):
        made = plan(open_groups=2)

        def work(comm):
            src = {f"layer{n}": np.zeros((ROWS, COLUMNS), np.float32) for n in range(LAYERS)} if comm.rank == 0 else None
            stays = {f"layer{n}": np.full((ROWS // 2, COLUMNS), -1, np.float32) for n in range(1, LAYERS)} if comm.rank else {}
            doubled = np.zeros(ROWS // 2 * COLUMNS, np.float32)  # made of layer 0, which lies in scratch alone
            outputs = [(0, doubled)] if comm.rank else []
            reload = reshard.Reload(made, comm, src, stays, outputs=outputs)
            for step in range(3):
                if src:
                    self.source(comm, step, src)
                seen = []
                for layer in reload.run(timeout=20.0):
                    seen.append(layer.group)
                    landed = array_of(layer.buffers[f"layer{layer.group}"])
                    np.testing.assert_array_equal(landed, mine(comm.rank, layer.group, step))
                    if layer.group == 0:
                        array_of(layer.outputs[0])[:] = 2 * landed
                    else:
                        landed += 0.5  # what the server makes of it is what is committed
                self.assertEqual(seen, list(range(LAYERS)) if comm.rank else [])
                for name, array in stays.items():
                    np.testing.assert_array_equal(array, mine(comm.rank, int(name[-1]), step) + 0.5)
                if comm.rank:
                    np.testing.assert_array_equal(doubled, 2 * mine(comm.rank, 0, step).ravel())
                    self.assertEqual(reload.state(2), "complete")
            return reload.stats["open_bytes"]

        opened = checked(on_ranks(3, work))
        layer_bytes = ROWS // 2 * COLUMNS * 4
        self.assertLess(max(opened[1:]), 4 * layer_bytes)  # two layers of five, and an output as large as one

    def test_a_loop_that_is_left_gives_the_run_up_on_all_ranks_and_changes_nothing_more(self):
        made = plan(open_groups=1)

        def work(comm):
            src = {f"layer{n}": values(n, 0) for n in range(LAYERS)} if comm.rank == 0 else None
            stays = {f"layer{n}": np.full((ROWS // 2, COLUMNS), -1, np.float32) for n in range(LAYERS)} if comm.rank else {}
            reload = reshard.Reload(made, comm, src, stays)
            kind, text = (ValueError, "no more room") if comm.rank == 2 else (reshard.GivenUp, "loop over the layers was left")
            with self.assertRaisesRegex(kind, text):
                for layer in reload.run(timeout=20.0):
                    if comm.rank == 2 and layer.group == 1:
                        raise ValueError("no more room")
            if comm.rank == 2:
                np.testing.assert_array_equal(stays["layer0"], mine(2, 0, 0))
                self.assertTrue((stays["layer1"] == -1).all())
                self.assertEqual([reload.state(n) for n in range(2)], ["complete", "unchanged"])
            for layer in reload.run(timeout=20.0):  # the next one is right
                pass
            for name, array in stays.items():
                np.testing.assert_array_equal(array, mine(comm.rank, int(name[-1]), 0))

        checked(on_ranks(3, work))

    def test_it_goes_on_to_another_plan_and_keeps_what_is_served(self):
        made = plan(open_groups=2)
        swapped = reshard.LayoutBuilder(3)  # rank 2 has the first rows
        for layer in range(LAYERS):
            swapped.tensor(f"layer{layer}", (ROWS, COLUMNS), "F32", layer)
            swapped.place(f"layer{layer}", [2, 1], [reshard.Shard(0)])
        updated = made.update(swapped.build())

        def work(comm):
            src = {f"layer{n}": values(n, 0) for n in range(LAYERS)} if comm.rank == 0 else None
            stays = {f"layer{n}": np.full((ROWS // 2, COLUMNS), -1, np.float32) for n in range(LAYERS)} if comm.rank else {}
            maxima = np.zeros(1, np.float32)
            outputs = [(0, maxima)] if comm.rank else []

            def run(reload):
                for layer in reload.run(timeout=20.0):
                    if layer.group == 0:
                        np.frombuffer((ctypes.c_char * 4).from_address(layer.outputs[0].ptr), np.float32)[:] = array_of(
                            layer.buffers["layer0"]).max()

            reload = reshard.Reload(made, comm, src, stays, outputs=outputs)
            run(reload)
            wrong = {"dst": {"other": np.zeros(3)}} if comm.rank == 1 else {}
            with self.assertRaises(reshard.InvalidArgument):
                reload.update(updated, **wrong)
            with self.assertRaisesRegex(reshard.PlanMismatch, "stale"):
                reload.update(made if comm.rank == 1 else updated)
            self.assertIs(reload.plan, made)
            moved = np.zeros((ROWS // 2, COLUMNS), np.float32)
            reload.update(updated, dst={"layer3": moved, "layer4": None} if comm.rank else None)
            self.assertIs(reload.plan, updated)
            for name, array in stays.items():
                np.testing.assert_array_equal(array, mine(comm.rank, int(name[-1]), 0))
            if comm.rank:
                self.assertEqual(reload.state(1), "complete")
            if src:
                self.source(comm, 1, src)
            run(reload)
            for name, array in stays.items():
                rank, step = (comm.rank, 0) if name in ("layer3", "layer4") else (3 - comm.rank, 1)  # bound no more
                np.testing.assert_array_equal(array, mine(rank, int(name[-1]), step))
            if comm.rank:
                np.testing.assert_array_equal(moved, mine(3 - comm.rank, 3, 1))
                self.assertEqual(maxima[0], mine(3 - comm.rank, 0, 1).max())
            self.assertEqual(reload.stats["num_runs"], 1)

        checked(on_ranks(3, work))

    def test_memory_that_the_layout_has_not_got_is_told_on_every_rank(self):
        made = plan()

        def work(comm):
            src = {f"layer{n}": values(n, 0) for n in range(LAYERS)} if comm.rank == 0 else None
            with self.assertRaises(reshard.InvalidArgument):
                reshard.Reload(made, comm, src, {"other": np.zeros(3)} if comm.rank == 1 else None)

        checked(on_ranks(3, work))


if __name__ == "__main__":
    sys.exit(unittest.main())
