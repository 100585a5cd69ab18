# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Layouts by hand: tensors, and for each where it lies, on a mesh of ranks or block by block.

Blocks are collected here and given to the library at `build`, in one table: a buffer is as large as they reach, and a
hundred thousand of them take a fraction of a second.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np

from ._dtypes import SIZES, dtype_number
from ._errors import InvalidArgument
from ._layout import BLOCK_DTYPE, KINDS, Layout
from ._library import chars, check, created, ffi, lib, struct, structs, value


@dataclass(frozen=True)
class Replicate:
    """Every coordinate of the mesh axis holds all of it."""


@dataclass(frozen=True)
class Shard:
    """The mesh axis divides dimension `dim`, by one of these:

    rule: "chunk" (torch.chunk: pieces of ceil(n / size), the last ones short or empty), "balanced" (sizes differ by one
    at most, larger first), "even" (must divide). cuts: 0 = c[0] <= ... <= c[size] = n. block: block-cyclic, so many
    elements dealt out in turn. table: for each coordinate its half-open ranges (begin, end), in local order.
    """
    dim: int
    rule: str = "chunk"
    cuts: Sequence[int] | None = None
    block: int | None = None
    table: Sequence[Sequence[tuple[int, int]]] | None = None


RULES = {"chunk": "RESHARD_SHARD_CHUNK", "balanced": "RESHARD_SHARD_BALANCED", "even": "RESHARD_SHARD_EVEN"}
SCALES = {"block128": 1, "mxfp8": 2, "channel": 3, "tensor": 4}  # reshard_scale_kind_t


@dataclass
class _Blocks:
    """Blocks of tensors with one number of dimensions, in columns."""
    keys: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # tensor, rank, buffer, kind, offset
    starts: list[Sequence[int]] = field(default_factory=list)
    shapes: list[Sequence[int]] = field(default_factory=list)
    strides: list[Sequence[int]] = field(default_factory=list)


class LayoutBuilder:
    """Collects tensors and where they lie; `build` gives the Layout."""

    def __init__(self, num_ranks: int):
        """num_ranks: size of the world, 1 to 262,144; ranks may hold nothing."""
        self._handle = created("layout", lib.reshard_layout_create, num_ranks)
        self._tensors: dict[str, tuple[int, int, int]] = {}  # name -> index, dimensions, bytes of an element
        self._buffers: dict[tuple[int, str], int] = {}  # (rank, name) -> place in _sizes
        self._sizes: list[int | None] = []  # bytes, None: as far as blocks reach
        self._shared: dict[str, int] = {}  # buffers of placements: name -> the library's id
        self._blocks: dict[int, _Blocks] = {}  # by number of dimensions
        self._ranges: list[tuple[int, int, int, int, int, int]] = []  # tensor, rank, buffer, start, stop, offset

    def tensor(self, name: str, shape: Sequence[int], dtype: Any, group: int = 0) -> None:
        """Adds a logical tensor that no rank holds yet. Both sides of a transfer must use the same names and shapes.

        shape: global extents, up to 8, none for a scalar. dtype: a safetensors name, or numpy's or torch's type.
        group: completion group, e.g. the layer; groups complete in ascending order.
        """
        desc, number = struct("tensor_desc"), dtype_number(dtype)
        name_chars, extents = chars(name), ffi.new("int64_t[]", list(shape) or [0])
        desc.name, desc.dtype, desc.num_dims, desc.shape, desc.group = name_chars, number, len(shape), extents, group
        index = value("int64_t", lib.reshard_layout_add_tensor, self._handle, desc)
        self._tensors[name] = (index, len(shape), SIZES[number])

    def _known(self, name: str) -> tuple[int, int, int]:
        try:
            return self._tensors[name]
        except KeyError:
            raise InvalidArgument(f"tensor {name!r} was not added; call tensor() first") from None

    def scales(self, name: str, kind: str, scales: str) -> None:
        """The elements of `name`, F8_E4M3, are to be read times those of the tensor `scales`. kind: "block128", "mxfp8",
        "channel" or "tensor"."""
        if kind not in SCALES:
            raise InvalidArgument(f"kind of scales is {kind!r}; give one of {', '.join(SCALES)}")
        check(lib.reshard_layout_set_scales(self._handle, self._known(name)[0], SCALES[kind], self._known(scales)[0]))

    # ----------------------------------------------------------------------------------------------------- meshes

    def place(self, name: str, mesh: Any, placements: Sequence[Replicate | Shard], *, buffer: str | None = None,
              offset_bytes: int = 0, order: Sequence[int] | None = None, pad_to: Sequence[int] | None = None,
              inner_first: bool = False) -> None:
        """Places a tensor on a mesh of ranks; each holds its piece as a dense array.

        mesh: array of distinct ranks, one dimension per axis. placements: one per axis; several that shard one dimension
        nest left to right, or right to left with inner_first. buffer: of several tensors, shared by name, where the piece
        begins at offset_bytes; None: one of its own, named as the tensor. order: memory order of the dimensions, slowest
        first. pad_to: one local shape for all ranks, with a zero-filled tail.
        """
        ranks = np.ascontiguousarray(np.asarray(mesh, dtype=np.int32))
        if ranks.ndim != len(placements) or not ranks.ndim:
            raise InvalidArgument(f"tensor {name!r}: mesh of {ranks.ndim} axes with {len(placements)} placements; "
                                  "give an axis or more, and a placement for each")
        desc = struct("placement_desc")
        keep: list[Any] = [ffi.new("int64_t[]", ranks.shape), ffi.from_buffer("int32_t[]", ranks)]
        desc.tensor, desc.num_axes, desc.axis_sizes, desc.ranks = self._known(name)[0], ranks.ndim, keep[0], keep[1]
        desc.placements = axes = structs("axis_placement", ranks.ndim)
        for axis, placement in enumerate(placements):
            keep += _fill_axis(axes[axis], placement)
        desc.nest_inner_first, desc.offset_bytes = int(inner_first), offset_bytes
        for attribute, kind, given in (("order", "int32_t[]", order), ("pad_to", "int64_t[]", pad_to)):
            if given is not None:
                if len(given) != self._known(name)[1]:
                    raise InvalidArgument(f"tensor {name!r}: {attribute} is {list(given)}; give one per dimension")
                keep.append(ffi.new(kind, list(given) or [0]))
                setattr(desc, attribute, keep[-1])
        if buffer is not None:
            desc.buffer = self._shared_buffer(buffer)
        check(lib.reshard_layout_place(self._handle, desc))

    def _shared_buffer(self, name: str) -> int:
        if name not in self._shared:
            self._shared[name] = value("int64_t", lib.reshard_layout_add_buffer, self._handle, -1, chars(name), 0)
        return self._shared[name]

    # ----------------------------------------------------------------------------------------------------- blocks

    def buffer(self, rank: int, name: str, size_bytes: int | None = None) -> None:
        """Adds a rank's buffer for blocks; they do it themselves where the size need not be said. None: as far as its
        blocks reach. A rank's buffers have distinct names, by which a Session finds their memory."""
        key = (rank, name)
        if key not in self._buffers:
            self._buffers[key] = len(self._sizes)
            self._sizes.append(size_bytes)
        elif size_bytes is not None:
            self._sizes[self._buffers[key]] = size_bytes

    def _buffer(self, rank: int, name: str) -> int:
        found = self._buffers.get((rank, name))
        if found is None:
            self.buffer(rank, name)
            found = self._buffers[rank, name]
        return found

    def block(self, name: str, rank: int, buffer: str, start: Sequence[int], shape: Sequence[int], *,
              offset_bytes: int = 0, strides_bytes: Sequence[int] | None = None, kind: str = "data") -> None:
        """Adds one rank's strided piece of a tensor: the box [start, start + shape) of its elements.

        The element at index i lies at offset_bytes + sum((i - start) * strides_bytes) of the rank's buffer. strides_bytes
        None: row-major without gaps. kind: "data"; "zero" or "untouched" for padding, whose start is zeros.
        Raises InvalidArgument, for most faults at `build`.
        """
        tensor, dims, size_bytes = self._known(name)
        if len(start) != dims or len(shape) != dims or (strides_bytes is not None and len(strides_bytes) != dims):
            raise InvalidArgument(f"tensor {name!r} of {dims} dimensions: block of start {list(start)}, shape "
                                  f"{list(shape)}, strides_bytes {strides_bytes}; give one of each per dimension")
        if kind not in KINDS:
            raise InvalidArgument(f"tensor {name!r}: block of kind {kind!r}; give one of {', '.join(KINDS)}")
        blocks = self._blocks.setdefault(dims, _Blocks())
        blocks.keys.append((tensor, rank, self._buffer(rank, buffer), KINDS.index(kind), offset_bytes))
        blocks.starts.append(start)
        blocks.shapes.append(shape)
        blocks.strides.append(dense_strides(shape, size_bytes) if strides_bytes is None else strides_bytes)

    def flat_range(self, name: str, rank: int, buffer: str, start: int, stop: int, *, offset_bytes: int = 0) -> None:
        """Adds elements [start, stop) of the flattened tensor, as an FSDP1 FlatParameter holds them, from offset_bytes of
        the rank's buffer on."""
        tensor = self._known(name)[0]
        self._ranges.append((tensor, rank, self._buffer(rank, buffer), start, stop, offset_bytes))

    def build(self) -> Layout:
        """The Layout; the builder is of no use afterwards. Raises InvalidArgument naming what is wrong with which tensor;
        whether destination blocks overlap is told by the plan."""
        if self._handle is None:
            raise InvalidArgument("build() was called before; make another LayoutBuilder")
        handle, self._handle = self._handle, None
        table = self._table()
        sizes = self._buffer_sizes(table)
        ids = np.array([value("int64_t", lib.reshard_layout_add_buffer, handle, rank, chars(name), sizes[place])
                        for (rank, name), place in self._buffers.items()], dtype=np.int64)
        if len(table):
            table["buffer"] = ids[table["buffer"]]
            first = ffi.cast("reshard_block_t*", table.ctypes.data)
            add = lib.reshard_layout_add_block
            for index in range(len(table)):
                if add(handle, first + index):
                    check(add(handle, first + index))
        for tensor, rank, buffer, start, stop, offset_bytes in self._ranges:
            check(lib.reshard_layout_add_flat_range(handle, rank, tensor, start, stop, ids[buffer], offset_bytes))
        return Layout(handle)

    def _table(self) -> np.ndarray[Any, Any]:
        """All blocks as reshard_block_t, but that `buffer` is a place in _sizes."""
        table = np.zeros(sum(len(blocks.keys) for blocks in self._blocks.values()), BLOCK_DTYPE)
        initial, begin = struct("block"), 0
        table["struct_size"], table["version"] = initial.struct_size, initial.version
        for dims, blocks in self._blocks.items():
            part = table[begin:begin + len(blocks.keys)]
            begin += len(part)
            for name, column in zip(("tensor", "rank", "buffer", "kind", "offset_bytes"), zip(*blocks.keys)):
                part[name] = column
            if dims:
                starts = np.array(blocks.starts, dtype=np.int64)
                part["begin"][:, :dims] = starts
                part["end"][:, :dims] = starts + np.array(blocks.shapes, dtype=np.int64)
                part["strides_bytes"][:, :dims] = np.array(blocks.strides, dtype=np.int64)
        return table

    def _buffer_sizes(self, table: np.ndarray[Any, Any]) -> list[int]:
        """Bytes of each buffer: as given, else as far as its blocks and ranges reach."""
        reach = np.zeros(len(self._sizes), dtype=np.int64)
        unit = np.zeros(max((index for index, _, _ in self._tensors.values()), default=0) + 1, dtype=np.int64)
        for index, _, size_bytes in self._tensors.values():
            unit[index] = size_bytes
        if len(table):
            extents = table["end"] - table["begin"]
            last = (np.maximum(extents - 1, 0) * table["strides_bytes"]).sum(axis=1)
            dims = np.zeros(len(unit), dtype=np.int64)
            for index, num_dims, _ in self._tensors.values():
                dims[index] = num_dims
            inside = np.arange(lib.RESHARD_MAX_DIMS) < dims[table["tensor"]][:, None]
            is_empty = ((extents <= 0) & inside).any(axis=1)
            ends = np.where(is_empty, 0, table["offset_bytes"] + last + unit[table["tensor"]])
            np.maximum.at(reach, table["buffer"], ends)
        for tensor, _, buffer, start, stop, offset_bytes in self._ranges:
            reach[buffer] = max(reach[buffer], offset_bytes + max(0, stop - start) * unit[tensor])
        return [int(reach[place]) if size is None else size for place, size in enumerate(self._sizes)]


def _fill_axis(axis: Any, placement: Replicate | Shard) -> list[Any]:
    """Fills a reshard_axis_placement_t; returns what must live as long as it."""
    if isinstance(placement, Replicate):
        return []
    if not isinstance(placement, Shard):
        raise InvalidArgument(f"placement {placement!r}; give reshard.Replicate() or reshard.Shard(dim)")
    axis.dim = placement.dim
    if placement.cuts is not None:
        axis.rule, axis.num_cuts = lib.RESHARD_SHARD_CUTS, len(placement.cuts)
        axis.cuts = cuts = ffi.new("int64_t[]", list(placement.cuts) or [0])
        return [cuts]
    if placement.table is not None:
        entries = [(coordinate, begin, end) for coordinate, row in enumerate(placement.table) for begin, end in row]
        axis.rule, axis.num_entries = lib.RESHARD_SHARD_TABLE, len(entries)
        axis.entries = table = ffi.new("reshard_table_entry_t[]", entries or 1)
        return [table]
    if placement.block is not None:
        axis.rule, axis.block = lib.RESHARD_SHARD_CYCLIC, placement.block
    elif placement.rule in RULES:
        axis.rule = getattr(lib, RULES[placement.rule])
    else:
        raise InvalidArgument(f"rule {placement.rule!r}; give one of {', '.join(RULES)}, or cuts, block or table")
    return []


def dense_strides(shape: Sequence[int], size_bytes: int) -> list[int]:
    """Strides in bytes of a row-major array without gaps."""
    return [size_bytes * math.prod(shape[d + 1:]) for d in range(len(shape))]
