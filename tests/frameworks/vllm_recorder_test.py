#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The recorder of reshard.vllm on loaders written here, with plain torch: what it records is what they copy.

The oracle copies for real: the checkpoint's elements are numbered, the loader runs on memory, and each number that lies
in the parameter then must be the one that the recording has at this place.
"""
import random
import unittest

import torch
from reshard.vllm import boxes, experts
from reshard.vllm.boxes import NotABox, View
from reshard.vllm.recorder import Recorder, RecordingError
from reshard.vllm.recording import Block, CheckpointTensor, Parameter, Recording, blocks_of

UNTOUCHED = -1


def copied(load, shape, parameter_shape):
    """What a loader puts into a parameter: element numbers from 1 on, 0 for zeros."""
    parameter = torch.full(parameter_shape, float(UNTOUCHED), dtype=torch.float64)
    count = torch.Size(shape).numel()
    load(parameter, torch.arange(1, count + 1, dtype=torch.float64).reshape(shape))
    return parameter.flatten()


def recorded(load, shape, parameter_shape, is_complete=True):
    """The same, from the blocks of a recording."""
    recorder = Recorder()
    parameter = torch.nn.Parameter(torch.empty(parameter_shape, device="meta"), requires_grad=False)
    recorder.add_parameter("p", parameter)
    source = recorder.source("t", tuple(shape), torch.float32)
    with torch.no_grad(), recorder:
        load(parameter.data, source)
    memory = torch.full((parameter.numel(),), float(UNTOUCHED), dtype=torch.float64)
    numbers = torch.arange(1, source.numel() + 1, dtype=torch.float64)
    for block in blocks_of("p", recorder.parameters[next(iter(recorder.parameters))][1], is_complete):
        place = memory.as_strided(block.shape, block.strides, block.offset)
        assert (place == UNTOUCHED).all(), "blocks overlap"
        if block.is_zero:
            place.fill_(0)
            continue
        strides = boxes.dense_strides(tuple(shape))
        place.copy_(numbers.as_strided(block.shape, strides, sum(b * s for b, s in zip(block.begin, strides))))
    return memory


LOADERS = {
    "whole": (lambda p, t: p.copy_(t), (4, 6), (4, 6)),
    "rows": (lambda p, t: p.copy_(t.narrow(0, 4, 4)), (12, 6), (4, 6)),
    "columns": (lambda p, t: p.copy_(t[:, 2:5]), (4, 6), (4, 3)),
    "columns into rows": (lambda p, t: (p[:3].copy_(t[:, :4]), p[3:].copy_(t[:, 4:])), (3, 8), (6, 4)),
    "transposed": (lambda p, t: p.copy_(t.t()), (4, 6), (6, 4)),
    "transposed through memory": (lambda p, t: p.copy_(t.t().contiguous()), (4, 6), (6, 4)),
    "permuted": (lambda p, t: p.copy_(t.permute(2, 0, 1)[1:3]), (4, 6, 5), (2, 4, 6)),
    "even, then odd rows": (lambda p, t: p.copy_(t.view(3, 4, 2, 5).transpose(1, 2).reshape(24, 5)), (24, 5), (24, 5)),
    "interleaved": (lambda p, t: (p[::2].copy_(t[:4]), p[1::2].copy_(t[4:])), (8, 3), (8, 3)),
    "flattened": (lambda p, t: p.copy_(t.reshape(-1)), (4, 6), (24,)),
    "joined": (lambda p, t: p.copy_(torch.cat([t[6:], t[:6]])), (12, 2), (12, 2)),
    "stacked": (lambda p, t: p.copy_(torch.stack([t[2], t[0]])), (3, 5), (2, 5)),
    "padded by zeros": (lambda p, t: (p[:5].copy_(t), p[5:].fill_(0)), (5, 3), (8, 3)),
    "zeros, then some": (lambda p, t: (p.zero_(), p[1:3, 1:2].copy_(t)), (2, 1), (4, 3)),
    "padded on the way": (lambda p, t: p.copy_(torch.nn.functional.pad(t, (1, 2, 0, 3))), (2, 4), (5, 7)),
    "written twice": (lambda p, t: (p.copy_(t), p[1].copy_(t[0])), (3, 4), (3, 4)),
    "part by part": (lambda p, t: [p[i].copy_(t[2 - i]) for i in range(3)], (3, 4), (3, 4)),
    "selected": (lambda p, t: p.copy_(t[torch.tensor([2, 0])]), (3, 4), (2, 4)),
    "selected along columns": (lambda p, t: p.copy_(t.index_select(1, torch.tensor([3, 1]))), (3, 4), (3, 2)),
    "selected by a table that moved": (lambda p, t: p.copy_(t[torch.tensor([1, 2]).to(t.device)]), (3, 4), (2, 4)),
    "repeated": (lambda p, t: p.copy_(t.expand(4, 3)), (1, 3), (4, 3)),
    "a number": (lambda p, t: p.fill_(t.item()), (1,), (1,)),
    "a buffer on the way": (lambda p, t: (lambda b: (b[:2].copy_(t[1:]), b[2:].copy_(t[:1]), p.copy_(b)))(
        torch.empty(3, 4, device=t.device, dtype=t.dtype)), (3, 4), (3, 4)),
    "zeros on the way": (lambda p, t: (lambda b: (b[1:].copy_(t), p.copy_(b)))(
        torch.zeros(4, 3, device=t.device, dtype=t.dtype)), (3, 3), (4, 3)),
    "zeroed before it is copied": (lambda p, t: (t[1:].zero_(), p.copy_(t)), (3, 4), (3, 4)),
    "widened": (lambda p, t: p.copy_(t.to(torch.float64)), (3, 4), (3, 4)),
    "scalar": (lambda p, t: p.copy_(t), (), ()),
}


class RecorderTest(unittest.TestCase):

    def test_what_is_recorded_is_what_is_copied(self):
        for name, (load, shape, parameter_shape) in LOADERS.items():
            with self.subTest(name):
                self.assertEqual(recorded(load, shape, parameter_shape).tolist(),
                                 copied(load, shape, parameter_shape).tolist())

    def test_random_chains_of_views(self):
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for _ in range(300):
            shape = tuple(chance.choice((1, 2, 3, 4, 6)) for _ in range(chance.randrange(1, 4)))
            steps = [chance.random() for _ in range(chance.randrange(1, 5))]

            def view(tensor, steps=steps):
                for step in steps:
                    tensor = a_view(tensor, step)
                return tensor

            target = tuple(view(torch.empty(shape)).shape)
            load = lambda p, t: p.copy_(view(t))  # noqa: E731
            try:
                found = recorded(load, shape, target)
            except RecordingError:
                continue  # a view may be refused, but never be wrong
            self.assertEqual(found.tolist(), copied(load, shape, target).tolist(), f"seed {seed}, {shape}, {steps}")

    def test_what_is_computed_names_the_parameter_and_the_operation(self):
        for load, words in ((lambda p, t: p.copy_(-t.exp()), "aten.neg"), (lambda p, t: p.copy_(t * 2), "aten.mul"),
                            (lambda p, t: p.mul_(t), "aten.mul_"), (lambda p, t: p.fill_(1.5), "1.5"),
                            (lambda p, t: p.copy_(t.add_(1)), "aten.add_"),
                            (lambda p, t: p.copy_(t.to(torch.bfloat16)), "aten._to_copy")):
            with self.assertRaises(RecordingError) as caught:
                recorded(load, (2, 3), (2, 3))
            self.assertIn("p cannot be recorded", str(caught.exception))
            self.assertIn(words, str(caught.exception))

    def test_what_is_missing_is_counted(self):
        with self.assertRaisesRegex(RecordingError, "p cannot be recorded: 4 of its 12 elements are filled by no tensor"):
            recorded(lambda p, t: p[:2].copy_(t), (2, 4), (3, 4))
        with self.assertRaisesRegex(RecordingError, "memory that nothing was written to"):
            recorded(lambda p, t: p.copy_(torch.empty(2, 4, device=t.device)), (2, 4), (2, 4))

    def test_values_are_not_to_be_had(self):
        with self.assertRaisesRegex(RecordingError, "asks for the value"):
            recorded(lambda p, t: p.copy_(t) if (t + 1)[0].item() else None, (1,), (1,))

    def test_live_memory_is_not_written(self):
        recorder, live = Recorder(), torch.ones(3, 4)
        recorder.add_parameter("p", live)
        source = recorder.source("t", (3, 4), torch.float32)
        with recorder:
            live[1:].copy_(source[1:])
            live[:1].zero_()
        self.assertTrue((live == 1).all())

    def test_views_that_are_no_boxes(self):
        for shape, view in (((4, 4), View(0, (4,), (5,))), ((3, 4), View(1, (6,), (1,))), ((3, 4), View(2, (2, 3), (4, 1)))):
            with self.assertRaises(NotABox):
                boxes.cut(shape, view, View(0, view.shape, boxes.dense_strides(view.shape)))


def a_view(tensor, step):
    """One of the views that loaders make, as the number in [0, 1) says."""
    dim, kind, rest = int(step * 7919) % max(1, tensor.dim()), int(step * 6), int(step * 104729)
    if not tensor.dim() or not tensor.numel():
        return tensor
    extent = tensor.shape[dim]
    if kind == 0:
        return tensor.narrow(dim, rest % extent, extent - rest % extent)
    if kind == 1:
        return tensor.transpose(dim, rest % tensor.dim())
    if kind == 2 and extent % 2 == 0:
        return tensor.unflatten(dim, (2, extent // 2))
    if kind == 3 and tensor.dim() > 1:
        return tensor.flatten(0, 1)
    if kind == 4:
        return tensor[:, ::2] if tensor.dim() > 1 else tensor[::2]
    return tensor.select(dim, rest % extent) if tensor.dim() > 1 else tensor.contiguous()


class ExpertsTest(unittest.TestCase):
    """Stacked experts, and tables of them that change."""

    def record(self, owners):
        """w13 of four slots, as a loader fills it by an expert in each slot: gate, then up."""
        recorder = Recorder()
        parameter = torch.empty(len(owners), 4, 3, device="meta")
        recorder.add_parameter("mlp.experts.routed_experts.w13", parameter)
        with recorder:
            for kind, tensor in enumerate(("gate", "up")):
                described = CheckpointTensor(f"mlp.experts.{tensor}.weight", (6, 2, 3), torch.float32)
                files = dict(described.files(recorder.source(described.name, described.shape, described.dtype)))
                for slot, expert in enumerate(owners):
                    parameter[slot, 2 * kind:2 * kind + 2].copy_(files[f"mlp.experts.{expert}.{tensor}.weight"])
        name, space = next(iter(recorder.parameters.values()))
        return Recording({name: Parameter(name, tuple(parameter.shape), parameter.stride(), torch.float32)},
                         {name: blocks_of(name, space, True)})

    def test_experts_in_a_row_are_one_block(self):
        (blocks,) = self.record([2, 3, 4]).blocks.values()
        self.assertEqual(blocks, [Block("mlp.experts.gate.weight", (2, 0, 0), (3, 2, 3), 0, (12, 3, 1)),
                                  Block("mlp.experts.up.weight", (2, 0, 0), (3, 2, 3), 6, (12, 3, 1))])

    def test_a_table_that_changed(self):
        first, table = self.record([2, 3, 0, 1]), experts.Table("mlp.experts.routed_experts.", (5, 0, 1, 5))
        self.assertEqual(experts.apply(first, [table]), self.record([5, 0, 1, 5]))
        self.assertEqual(experts.apply(first, []), first)

    def test_a_table_is_read_from_the_model(self):
        class Part(torch.nn.Module):
            pass

        # Two workers of three slots, this is the second; expert 1 is there twice, once on each.
        layer, routed, router, state = Part(), Part(), Part(), Part()
        state.logical_to_physical_map = torch.tensor([[0, -1], [5, 1], [3, -1], [2, -1], [4, -1]])
        routed._expert_map = torch.tensor([-1, -1, -1, 0, 1, 2])
        router.eplb_state, layer.router, layer.routed_experts = state, router, routed
        self.assertEqual(experts.tables(layer), [experts.Table(".routed_experts.", (2, 4, 1))])

    def test_a_table_without_a_slot(self):
        with self.assertRaisesRegex(RecordingError, "has a slot 1, of which the table of experts says nothing"):
            experts.apply(self.record([2, 3]), [experts.Table("mlp.experts.routed_experts.", (5,))])


if __name__ == "__main__":
    unittest.main()
