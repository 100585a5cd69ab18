# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Memory as text, and text as memory: which box of which checkpoint tensor lies where in a parameter.

Every element of a checkpoint has a number of its own, from 1 on. A parameter's memory is an array of such numbers, ZERO
where a framework puts zeros and UNTOUCHED where it writes nothing. cut() says in lines like

    48x60 at 96,0 = model.layers.2.self_attn.k_proj.weight from 48,0

what an array holds (indices of nothing but zeros are left out); paint() makes the array again. A box that lies
transposed has the tensor's dim of each of memory's dims behind it ("dims 1,0"). Of a vector into which tensors were
flattened, "100 at 60 = ... flat 7" are 100 elements of the flattened tensor from 7 on. Routed experts, which files hold
one by one, count as one tensor with the expert first.
"""
import json
import math
import re

import numpy as np

ZERO, UNTOUCHED = 0, -1
NOTHING = {"zeros": ZERO, "untouched": UNTOUCHED}
EXPERT = re.compile(r"\.experts\.(\d+)\.")


class Checkpoint:
    """The tensors of a record's "files", numbered; experts stacked."""

    def __init__(self, files):
        self.files = {name: json.loads(text.partition(" ")[2]) for name, text in files.items()}
        self.dtypes = {self.stacked(name)[0]: text.partition(" ")[0] for name, text in files.items()}
        self.shapes, self.first, number = {}, {}, 1
        for name, shape in sorted(self.files.items(), key=lambda item: self.stacked(item[0])):
            stack, expert = self.stacked(name)
            if expert is None:
                self.shapes[stack] = shape
            else:
                assert self.shapes.setdefault(stack, [0, *shape])[1:] == shape, f"{name}: experts of several shapes"
                self.shapes[stack][0] = max(self.shapes[stack][0], expert + 1)
        for name, shape in self.shapes.items():
            self.first[name] = number
            number += math.prod(shape)
        self.names, self.ends = list(self.first), np.array(list(self.first.values())[1:] + [number])

    @staticmethod
    def stacked(name):
        """(name of the tensor that has all experts, number of the expert); other names and None."""
        match = EXPERT.search(name)
        return (name.replace(match.group(0), ".experts."), int(match.group(1))) if match else (name, None)

    def numbers(self, name):
        """The array of a tensor's numbers, also of a single expert's."""
        stack, expert = self.stacked(name)
        if stack not in self.shapes or name in self.shapes:
            stack, expert = name, None
        shape = self.shapes[stack]
        array = np.arange(self.first[stack], self.first[stack] + math.prod(shape)).reshape(shape)
        return array if expert is None else array[expert]

    def locate(self, number):
        """(tensor, index) of an element."""
        name = self.names[int(np.searchsorted(self.ends, number, side="right"))]
        return name, [int(i) for i in np.unravel_index(number - self.first[name], self.shapes[name])]

    def strides(self, name):
        shape = self.shapes[name]
        return [math.prod(shape[dim + 1:]) for dim in range(len(shape))]


def grown(memory, free, at, dim, extents, steps, step, most):
    """How far a box at `at` reaches along dim, whose elements go up by steps and, along dim, by step."""
    expected = np.full(extents[:dim] + [1] + extents[dim + 1:], memory[tuple(at)])
    for other in range(dim + 1, memory.ndim):
        shape = [1] * memory.ndim
        shape[other] = extents[other]
        expected = expected + (np.arange(extents[other]) * steps[other]).reshape(shape)
    for count in range(1, min(most, memory.shape[dim] - at[dim])):
        here = tuple(slice(at[d] + (count if d == dim else 0), at[d] + (count if d == dim else 0) + extents[d])
                     for d in range(memory.ndim))
        if not free[here].all() or not (memory[here] == expected + count * step).all():
            return count
    return max(1, min(most, memory.shape[dim] - at[dim]))


def box_at(checkpoint, memory, free, at):
    """(extents, what, index, dims) of the largest box of one tensor at `at`, grown from the last dim on."""
    value, extents = memory[tuple(at)], [1] * memory.ndim
    steps, dims = [0] * memory.ndim, list(range(memory.ndim))
    if value in NOTHING.values():
        for dim in reversed(range(memory.ndim)):
            extents[dim] = grown(memory, free, at, dim, extents, steps, 0, memory.shape[dim])
        return extents, next(name for name in NOTHING if NOTHING[name] == value), None, None
    name, index = checkpoint.locate(value)
    shape, strides, used = checkpoint.shapes[name], checkpoint.strides(name), set()
    for dim in reversed(range(memory.ndim)):
        if at[dim] + 1 == memory.shape[dim]:
            continue
        beside = list(at)
        beside[dim] += 1
        step = int(memory[tuple(beside)] - value)
        fitting = [d for d in range(len(shape)) if strides[d] == step and shape[d] > 1 and d not in used]
        if fitting:
            steps[dim] = step
            extents[dim] = grown(memory, free, at, dim, extents, steps, step, shape[fitting[0]] - index[fitting[0]])
            if extents[dim] > 1:
                used.add(fitting[0])
                dims[dim] = fitting[0]
    return extents, name, index, dims


def run_at(checkpoint, memory, at):
    """(extents, what, first element) of the longest run of one flattened tensor, or of nothing, at `at` of a vector."""
    value, rest = int(memory[at]), memory[at:]
    if value in NOTHING.values():
        ends = np.flatnonzero(rest != value)
        return [int(ends[0]) if ends.size else len(rest)], next(name for name in NOTHING if NOTHING[name] == value), None
    name, _ = checkpoint.locate(value)
    number = value - checkpoint.first[name]
    most = min(len(rest), math.prod(checkpoint.shapes[name]) - number)
    ends = np.flatnonzero(rest[:most] != np.arange(value, value + most))
    return [int(ends[0]) if ends.size else most], name, number


def cut_flat(checkpoint, memory):
    """As cut(), of a vector into which tensors were flattened."""
    lines, at = [], 0
    while at < len(memory):
        extents, what, number = run_at(checkpoint, memory, at)
        lines.append(f"{extents[0]}" + (f" at {at}" if at else "") + f" = {what}" + ("" if number is None else f" flat {number}"))
        at += extents[0]
    assert (paint(checkpoint, [len(memory)], lines) == memory).all(), lines
    return lines


def joined(numbers, by=","):
    return by.join(map(str, numbers))


def cut(checkpoint, memory):
    """What the array holds, box by box."""
    lines, free = [], np.ones(memory.shape, bool)
    while free.any():
        at = [int(i) for i in np.unravel_index(int(np.argmax(free)), memory.shape)]
        extents, what, index, dims = box_at(checkpoint, memory, free, at)
        free[tuple(slice(a, a + e) for a, e in zip(at, extents))] = False
        line = joined(extents, "x") + (f" at {joined(at)}" if any(at) else "") + f" = {what}"
        if index is not None:
            line += f" from {joined(index)}" if any(index) else ""
            is_same = len(index) == memory.ndim and all(d == i for i, d in enumerate(dims) if extents[i] > 1)
            line += "" if is_same else f" dims {joined(dims)}"
        lines.append(line)
    assert (paint(checkpoint, list(memory.shape), lines) == memory).all(), lines
    return lines


BOX = re.compile(r"([\dx]+)(?: at ([\d,]+))? = (\S+)(?: flat (\d+))?(?: from ([\d,]+))?(?: dims ([\d,]+))?")


def paint(checkpoint, shape, lines):
    """The array of a parameter of which cut() said this."""
    memory = np.full(shape, -2)
    for line in lines:
        extents, at, what, flat, index, dims = BOX.fullmatch(line).groups()
        extents = [int(e) for e in extents.split("x")]
        at = [int(a) for a in at.split(",")] if at else [0] * len(extents)
        here = tuple(slice(a, a + e) for a, e in zip(at, extents))
        assert (memory[here] == -2).all(), f"{line}: overlaps another box"
        if what in NOTHING:
            memory[here] = NOTHING[what]
            continue
        if flat is not None:
            memory[here] = checkpoint.first[what] + int(flat) + np.arange(extents[0])
            continue
        index = [int(i) for i in index.split(",")] if index else []
        dims = [int(d) for d in dims.split(",")] if dims else range(len(extents))
        strides = checkpoint.strides(what)
        value = np.array(checkpoint.first[what] + sum(i * s for i, s in zip(index, strides)))
        for memory_dim, (extent, dim) in enumerate(zip(extents, dims)):
            along = [1] * len(extents)
            along[memory_dim] = extent
            value = value + (np.arange(extent) * (strides[dim] if extent > 1 else 0)).reshape(along)
        memory[here] = value
    assert (memory != -2).all(), "boxes leave a gap"
    return memory
