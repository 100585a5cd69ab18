#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Layouts, machines and plans of the Python package: what goes in comes out, and faults are exceptions of their status."""
import html.parser
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock

import numpy as np

import reshard
from reshard import __main__ as reshard_main
from reshard import _dtypes, _errors, _library

CONFIG = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 96,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "torch_dtype": "bfloat16",
          "tie_word_embeddings": False, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "rope_theta": 1e4}
SPEC = {"version": 1, "ranks": 4, "tensors": [{
    "name": "w", "group": 3, "shape": [8, 6],
    "src": {"dtype": "F32", "mesh": {"axes": [["x", 4]], "ranks": [0, 1, 2, 3]}, "placements": [{"shard": 0}]},
    "dst": {"dtype": "BF16", "mesh": {"axes": [["x", 2]], "ranks": [3, 1]}, "placements": [{"shard": 1}]}}]}


def made_by(add, num_ranks=4, shape=(8, 6), dtype="F32"):
    """The layout that `add` makes of a builder that has the tensor w."""
    builder = reshard.LayoutBuilder(num_ranks)
    builder.tensor("w", shape, dtype)
    add(builder)
    return builder.build()


class LayoutTest(unittest.TestCase):
    def test_numbers_of_statuses_dtypes_and_structs_are_the_library_s(self):
        for name, number in _library.ffi.typeof("reshard_status_t").relements.items():
            self.assertEqual(reshard.Status[name.removeprefix("RESHARD_").removeprefix("ERR_")], number)
        self.assertEqual(set(_errors.CLASSES), set(reshard.Status) - {reshard.Status.OK})
        names = _library.ffi.typeof("reshard_dtype_t").relements
        self.assertEqual(names, {f"RESHARD_{name}": number for name, number in _dtypes.NUMBERS.items()})
        for name, number in _dtypes.NUMBERS.items():
            self.assertEqual(reshard.dtype_size_bytes(name), _library.lib.reshard_dtype_size_bytes(number))
            self.assertEqual(_library.text(_library.lib.reshard_dtype_name(number)), name)
        header = pathlib.Path(__file__).parents[2] / "include/reshard/base.h"
        version = ".".join(str(getattr(_library.lib, f"RESHARD_VERSION_{part}")) for part in ("MAJOR", "MINOR", "PATCH"))
        self.assertEqual(reshard.__version__, version, header)

    def test_dtypes_have_many_names(self):
        for given, name in ((np.float32, "F32"), (np.dtype("int64"), "I64"), ("bf16", "BF16"), ("torch.bfloat16", "BF16"),
                            ("float8_e4m3fn", "F8_E4M3"), (bool, "BOOL"), (float, "F64")):
            self.assertEqual(reshard.dtype_name(given), name)
        with self.assertRaisesRegex(reshard.InvalidArgument, "complex64"):
            reshard.dtype_name(np.complex64)

    def test_a_model_s_layout_comes_from_a_config_in_any_form(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "config.json"
            path.write_text(json.dumps(CONFIG))
            layouts = [reshard.Layout.from_text(config, "vllm:tp=2") for config in (CONFIG, json.dumps(CONFIG), path, folder)]
        self.assertEqual(len({layout.to_bytes() for layout in layouts}), 1)
        tensor = layouts[0].tensors[layouts[0].find("model.layers.1.self_attn.k_proj.weight")]
        self.assertEqual((tensor.dtype, tensor.shape), ("BF16", (32, 64)))
        self.assertEqual(layouts[0].local_shape(1, tensor.name), (16, 64))
        names = [buffer.name for buffer in layouts[0].buffers(0)]
        self.assertIn("model.layers.0.self_attn.qkv_proj.weight", names)
        self.assertEqual(reshard.num_ranks_of("vllm:tp=2,replicas=3"), 6)

    def test_options_of_a_model_s_layout_reach_the_library(self):
        placed = reshard.Layout.from_text(CONFIG, "vllm:tp=2", ranks=[5, 1], num_ranks=7, dtype=np.float32, num_layers=1,
                                          include="model.layers.*", exclude="*norm*,*mlp*")
        self.assertEqual(placed.num_ranks, 7)
        self.assertEqual({tensor.dtype for tensor in placed.tensors}, {"F32"})
        self.assertTrue(all(".0.self_attn." in tensor.name and "norm" not in tensor.name for tensor in placed.tensors))
        self.assertEqual([bool(placed.buffers(rank)) for rank in range(7)], [rank in (1, 5) for rank in range(7)])
        self.assertEqual(reshard.Layout.from_text(CONFIG, "vllm:tp=2", first_rank=3).num_ranks, 5)

    def test_bytes_and_pickles_give_the_layout_back(self):
        layout = reshard.Layout.from_text(CONFIG, "fsdp:shard=3")
        for copy in (reshard.Layout.from_bytes(layout.to_bytes()), pickle.loads(pickle.dumps(layout))):
            self.assertEqual(copy.to_bytes(), layout.to_bytes())
            self.assertEqual(copy.blocks(2), layout.blocks(2))
        with self.assertRaises(reshard.InvalidArgument):
            reshard.Layout.from_bytes(b"no layout")

    def test_the_general_form_gives_both_sides(self):
        src, dst = reshard.Layout.from_spec(SPEC)
        self.assertEqual(src.tensors, [("w", "F32", (8, 6), 3)])
        self.assertEqual([block.start for block in dst.blocks(3) + dst.blocks(1)], [(0, 0), (0, 3)])
        with self.assertRaisesRegex(reshard.InvalidArgument, "line 1"):
            reshard.Layout.from_spec("{")

    def test_placements_on_meshes_are_blocks(self):
        shard = reshard.Shard
        for placements, mesh, expected in (
                ([shard(0, cuts=[0, 1, 1, 4, 8])], [0, 1, 2, 3], {0: (0, 1), 1: None, 2: (1, 4), 3: (4, 8)}),
                ([shard(0), shard(0)], [[0, 2], [1, 3]], {0: (0, 2), 2: (2, 4), 1: (4, 6), 3: (6, 8)}),
                ([shard(0, "even"), reshard.Replicate()], [[3, 2], [1, 0]], {3: (0, 4), 2: (0, 4), 1: (4, 8), 0: (4, 8)})):
            layout = made_by(lambda builder: builder.place("w", mesh, placements))
            for rank, rows in expected.items():
                found = [(block.start[0], block.start[0] + block.shape[0]) for block in layout.blocks(rank)]
                self.assertEqual(found, [rows] if rows else [], (placements, rank))
        cyclic = made_by(lambda builder: builder.place("w", [0, 1], [shard(0, block=3)]))
        self.assertEqual([(block.start[0], block.shape[0], block.local_start[0]) for block in cyclic.blocks(0)],
                         [(0, 3, 0), (6, 2, 3)])
        table = made_by(lambda builder: builder.place("w", [0, 1], [shard(0, table=[[(6, 8), (0, 1)], [(1, 6)]])]))
        self.assertEqual([(block.start[0], block.shape[0], block.local_start[0]) for block in table.blocks(0)],
                         [(6, 2, 0), (0, 1, 2)])

    def test_placements_share_a_buffer_and_have_orders(self):
        def add(builder):
            builder.tensor("v", (4, 6), "F32")
            builder.place("w", [0, 1], [reshard.Shard(0)], buffer="fused", order=[1, 0])
            builder.place("v", [0, 1], [reshard.Shard(0)], buffer="fused", offset_bytes=96, pad_to=[3, 6])

        layout = made_by(add)
        self.assertEqual([(buffer.name, buffer.size_bytes) for buffer in layout.buffers(1)], [("fused", 96 + 72)])
        of_w, of_v, padding = layout.blocks(1)
        self.assertEqual((of_w.strides_bytes, of_v.offset_bytes, of_v.shape), ((4, 16), 96, (2, 6)))
        self.assertEqual((padding.kind, padding.shape), ("zero", (1, 6)))

    def test_blocks_come_out_as_they_went_in(self):
        def add(builder):
            builder.tensor("flat", (5, 7), "BF16", group=9)
            builder.tensor("scalar", (), "I64")
            builder.block("w", 2, "a", (1, 2), (3, 4), offset_bytes=8, strides_bytes=(4, 100))
            builder.block("w", 2, "b", (0, 0), (1, 6))
            builder.block("w", 2, "b", (0, 0), (2, 6), offset_bytes=24, kind="zero")
            builder.block("scalar", 0, "s", (), (), offset_bytes=16)
            builder.flat_range("flat", 0, "s", 3, 30, offset_bytes=32)
            builder.buffer(1, "unused", 11)

        layout = made_by(add)
        self.assertEqual([(buffer.name, buffer.size_bytes) for buffer in layout.buffers(2)],
                         [("a", 8 + 2 * 4 + 3 * 100 + 4), ("b", 24 + 48)])
        first, second, padding = layout.blocks(2)
        self.assertEqual(first, ("w", 2, "a", "data", (1, 2), (3, 4), (1, 2), 8, (4, 100)))
        self.assertEqual((second.strides_bytes, padding.kind, padding.shape), ((24, 4), "zero", (2, 6)))
        self.assertEqual([(buffer.name, buffer.size_bytes) for buffer in layout.buffers(0)], [("s", 32 + 27 * 2)])
        elements = sum(int(np.prod(block.shape)) for block in layout.blocks(0) if block.tensor == "flat")
        self.assertEqual(elements, 27)
        self.assertIn("flat", layout.describe(0))

    def test_many_blocks_of_many_shapes(self):
        builder = reshard.LayoutBuilder(3)
        for index in range(40):
            builder.tensor(f"t{index}", (50,) * (1 + index % 3), "U8")
            for row in range(50):
                shape = (1,) + (50,) * (index % 3)
                builder.block(f"t{index}", row % 3, f"b{index}", (row,) + (0,) * (index % 3), shape,
                              offset_bytes=row // 3 * 50 ** (index % 3))
        layout = builder.build()
        self.assertEqual(sum(len(layout.block_table(rank)) for rank in range(3)), 2000)
        self.assertEqual(reshard.plan(layout, layout).bytes_crossed, 0)

    def test_faults_of_a_builder_name_the_tensor(self):
        for add, text in (
                (lambda builder: builder.place("x", [0], [reshard.Shard(0)]), "'x'"),
                (lambda builder: builder.place("w", [[0]], [reshard.Shard(0)]), "2 axes"),
                (lambda builder: builder.place("w", [0, 9], [reshard.Shard(0)]), "9"),
                (lambda builder: builder.place("w", [0], [reshard.Shard(0, "odd")]), "'odd'"),
                (lambda builder: builder.place("w", [0], ["S(0)"]), "Shard"),
                (lambda builder: builder.place("w", [0], [reshard.Shard(0)], pad_to=[1]), "pad_to"),
                (lambda builder: builder.block("w", 0, "b", (0,), (8,)), "2 dimensions"),
                (lambda builder: builder.block("w", 0, "b", (0, 0), (9, 6)), '"w"'),
                (lambda builder: builder.block("w", 4, "b", (0, 0), (8, 6)), "rank 4"),
                (lambda builder: builder.block("w", 0, "b", (0, 0), (8, 6), kind="air"), "'air'"),
                (lambda builder: builder.flat_range("w", 0, "b", 0, 49), '"w"'),
                (lambda builder: builder.tensor("w", (1,), "F32"), '"w"'),
                (lambda builder: builder.tensor("v", (1,) * 9, "F32"), '"v"'),
                (lambda builder: builder.tensor("v\0", (1,), "F32"), "zero character"),
                (lambda builder: builder.scales("w", "block128", "w"), "F8_E4M3")):
            with self.assertRaises(reshard.InvalidArgument) as caught:
                made_by(add)
            self.assertIn(text, str(caught.exception))
            self.assertEqual(caught.exception.status, reshard.Status.INVALID_ARGUMENT)
            self.assertIsInstance(caught.exception, ValueError)

    def test_a_block_beyond_its_buffer_is_refused(self):
        with self.assertRaisesRegex(reshard.BufferTooSmall, '"w"'):
            made_by(lambda builder: (builder.buffer(0, "b", 4), builder.block("w", 0, "b", (0, 0), (8, 6))))

    def test_a_builder_is_used_once(self):
        builder = reshard.LayoutBuilder(1)
        builder.build()
        with self.assertRaises(reshard.InvalidArgument):
            builder.build()
        with self.assertRaises(reshard.InvalidArgument):
            reshard.LayoutBuilder(0)


class LibraryTest(unittest.TestCase):
    def test_a_library_that_is_not_there_is_an_import_error_that_says_what_to_do(self):
        with unittest.mock.patch.dict(os.environ, {"RESHARD_LIBRARY": "/nowhere/libreshard.so"}):
            with self.assertRaisesRegex(ImportError, "RESHARD_LIBRARY.*/nowhere/libreshard.so"):
                _library.load()
        with unittest.mock.patch.object(_library, "VERSION", "9.9.0"):
            with self.assertRaisesRegex(ImportError, "this package is of 9.9.0"):
                _library.load()

    def test_ucx_of_pypi_is_loaded_where_the_system_has_none(self):
        calls = []

        class Loader:
            def dlopen(self, path):
                calls.append(path)
                if "ucx" not in calls:
                    raise OSError("libucp.so.0: cannot open shared object file")
                return "the library"

        ucx = types.SimpleNamespace(load_library=lambda: calls.append("ucx"))
        with unittest.mock.patch.object(_library, "ffi", Loader()):
            with unittest.mock.patch.dict(sys.modules, {"libucx": ucx}):
                self.assertEqual(_library.opened("it"), "the library")
            self.assertEqual(calls, ["it", "ucx", "it"])
            calls.clear()
            with unittest.mock.patch.dict(sys.modules, {"libucx": None}):
                with self.assertRaisesRegex(OSError, "libucx-cu13"):
                    _library.opened("it")


class PlanTest(unittest.TestCase):
    def setUp(self):
        self.src = reshard.Layout.from_text(CONFIG, "fsdp:shard=4", num_ranks=6)
        self.dst = reshard.Layout.from_text(CONFIG, "vllm:tp=2", first_rank=4)

    def test_a_plan_is_a_value(self):
        first, second = (reshard.plan(self.src, self.dst) for _ in range(2))
        self.assertEqual((first.hash, first.groups), (second.hash, second.groups))
        self.assertEqual(first.json()["hash"], f"{first.hash:016x}")
        self.assertEqual(first.num_ranks, 6)
        self.assertGreater(first.bytes_crossed, 0)
        self.assertIn(f"{first.hash:016x}", repr(first))
        with self.assertRaises(AttributeError):
            first.bytes_lost

    def test_a_plan_prints_as_the_tool_does(self):
        try:
            tool = reshard_main.tool("reshard_plan")
        except SystemExit as problem:
            self.skipTest(str(problem))
        names = ["--from", "fsdp:shard=4", "--to", "vllm:tp=2,quant=mxfp8"]
        dst = reshard.Layout.from_text(CONFIG, names[3], first_rank=4)
        machine = reshard.Machine("hgx-h100", [4, 2])
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "config.json"
            config.write_text(json.dumps(CONFIG))
            for options, made in (([], None), (["--cluster", "hgx-h100", "--simulate"], machine)):
                plan = reshard.plan(self.src, dst, made)
                if made:
                    plan.simulate()
                done = subprocess.run([tool, "--model", config, *names, *options], capture_output=True, text=True, check=True)
                lines = [text for text in str(plan).splitlines() if text and "planning took" not in text]
                self.assertGreater(len(lines), 15)
                self.assertEqual([text for text in lines if text not in done.stdout.splitlines()], [])
        self.assertIn("converted", str(plan))
        self.assertIn("lower bounds", str(plan))

    def test_a_plan_in_a_notebook_is_a_piece_of_html(self):
        class Reader(html.parser.HTMLParser):
            def __init__(self):
                super().__init__()
                self.open, self.text = [], ""

            def handle_starttag(self, tag, _attributes):
                self.open.append(tag)

            def handle_endtag(self, tag):
                assert self.open.pop() == tag, tag

            def handle_data(self, data):
                self.text += data

        for machine in (None, reshard.Machine("hgx-h100", [4, 2])):
            plan, reader = reshard.plan(self.src, self.dst, machine), Reader()
            reader.feed(plan._repr_html_())
            self.assertEqual(reader.open, [])
            self.assertIn(str(plan), reader.text)
            self.assertEqual("estimate" in reader.text, machine is not None)

    def test_a_plan_is_kept_in_a_file(self):
        plan = reshard.plan(self.src, self.dst)
        with tempfile.TemporaryDirectory() as folder:
            plan.save(pathlib.Path(folder) / "plan")
            self.assertEqual(reshard.Plan.load(f"{folder}/plan", self.src, self.dst).hash, plan.hash)
            with self.assertRaises(reshard.PlanMismatch):
                reshard.Plan.load(f"{folder}/plan", self.src, self.src)
            with self.assertRaises(OSError) as caught:
                reshard.Plan.load(f"{folder}/none", self.src, self.dst)
            self.assertEqual(caught.exception.status, reshard.Status.IO)

    def test_machines_give_estimates(self):
        machine = reshard.Machine("hgx-h100:nodes=2", [4, 2])
        self.assertEqual((machine.num_ranks, machine.warnings), (6, []))
        plan = reshard.plan(self.src, self.dst, machine, staging_bytes=1 << 20, group_order="any", open_groups=2)
        self.assertGreaterEqual(plan.estimate_seconds, plan.bound_seconds)
        self.assertGreater(plan.bound_seconds, 0)
        self.assertGreaterEqual(plan.simulate(), plan.bound_seconds)
        self.assertIn("domains", json.dumps(plan.details()))
        self.assertIn("takes", plan.advise())
        self.assertIn("hgx", repr(machine))
        with self.assertRaises(reshard.InvalidState):
            reshard.plan(self.src, self.dst).simulate()
        with self.assertRaisesRegex(reshard.InvalidArgument, "order"):
            reshard.plan(self.src, self.dst, group_order="odd")

    def test_plans_follow_lost_ranks(self):
        dst = reshard.Layout.from_text(CONFIG, "vllm:tp=1,replicas=2", first_rank=4)
        plan = reshard.plan(self.src, dst)
        less = plan.replan(self.src, dst.without_ranks([5]))
        self.assertLess(less.bytes_crossed, plan.bytes_crossed)
        self.assertEqual(plan.update(dst).num_ranks, 6)

    def test_what_cannot_be_planned_says_why(self):
        with self.assertRaisesRegex(reshard.NotCovered, "model.embed_tokens.weight"):
            reshard.plan(self.src.without_ranks([0]), self.dst)
        part = reshard.Layout.from_text(CONFIG, "fsdp:shard=4", num_ranks=6, exclude="lm_head.weight")
        with self.assertRaisesRegex(reshard.LayoutMismatch, "lm_head.weight"):
            reshard.plan(part, self.dst)
        skipping = reshard.plan(part, self.dst, skip_unmatched=True)
        self.assertEqual(skipping.unmatched, [("destination", "lm_head.weight")])


if __name__ == "__main__":
    unittest.main()
