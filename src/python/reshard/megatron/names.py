# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Under which names the two sides of a transfer find each other.

Two Megatron models meet under Megatron's own names for checkpoints (`MegatronNames`), whatever model it is. To meet a
server, or an FSDP trainer, a Megatron model must speak of the tensors of a Hugging Face checkpoint: `CheckpointNames`
asks reshard's `megatron:` layout of the config how these make up Megatron's wholes (q, k and v in query groups, gate over
up, experts transposed), so no table of a model family is here.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, Sequence

import reshard

from .metadata import Piece

VOCABULARY = ("embedding.word_embeddings.weight", "output_layer.weight", "output_layer.bias")
LAYER = re.compile(r"decoder\.layers\.(\d+)\.")
EXPERTS = re.compile(r"(.*mlp\.experts\.)experts\.linear_fc([12])\.weight")
# Norms that TransformerEngine fuses into the linear that follows, which is how Megatron names them in checkpoints.
FUSED_NORMS = (("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight"),
               ("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight"),
               ("self_attention.linear_q_up_proj.layer_norm_weight", "self_attention.q_layernorm.weight"),
               ("self_attention.linear_kv_up_proj.layer_norm_weight", "self_attention.kv_layernorm.weight"))


class Part(NamedTuple):
    """A box of a logical tensor in the memory of one parameter. tensor None: padding, which is made zero."""

    tensor: str | None
    start: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int  # elements from the parameter's first
    strides: tuple[int, ...]  # elements


class Names(Protocol):
    """What a layout of Megatron modules needs to know of names."""

    def parts(self, piece: Piece) -> list[Part]:
        """The piece in logical tensors; all of its elements, each once."""

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Of a tensor that `parts` has named."""

    def group(self, tensor: str, num_layers: int) -> int:
        """Its completion group: 0 before the layers, n + 1 in layer n, num_layers + 1 behind them."""


class MegatronNames:
    """Megatron's names for checkpoints: `decoder.layers.5.self_attention.linear_qkv.weight`, experts stacked."""

    def __init__(self, vocab_size: int | None = None):
        """vocab_size: rows of the vocabulary without Megatron's padding, which depends on tensor parallelism. Not needed
        where both sides are padded to the same size, which then counts as the size."""
        self.vocab_size = vocab_size
        self._shapes: dict[str, tuple[int, ...]] = {}

    def parts(self, piece: Piece) -> list[Part]:
        if piece.whole not in VOCABULARY or self.vocab_size is None:
            self._shapes[piece.whole] = piece.whole_shape
            return [Part(piece.whole, piece.start, piece.shape, piece.offset, piece.strides)]
        if piece.whole_shape[0] < self.vocab_size:
            raise reshard.InvalidArgument(f"{piece.parameter}: of a vocabulary of {piece.whole_shape[0]} rows, not of "
                                          f"vocab_size {self.vocab_size} and padding")
        self._shapes[piece.whole] = (self.vocab_size, *piece.whole_shape[1:])
        return _split_rows(piece, self.vocab_size)

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self._shapes[tensor]

    def group(self, tensor: str, num_layers: int) -> int:
        layer = LAYER.match(tensor)
        return int(layer.group(1)) + 1 if layer else 0 if tensor.startswith("embedding.") else num_layers + 1


def _split_rows(piece: Piece, num_rows: int) -> list[Part]:
    """The rows below num_rows, and those above as padding."""
    rows = max(0, min(piece.shape[0], num_rows - piece.start[0]))
    found = []
    if rows:
        found.append(Part(piece.whole, piece.start, (rows, *piece.shape[1:]), piece.offset, piece.strides))
    if rows < piece.shape[0]:
        found.append(Part(None, (0,) * len(piece.shape), (piece.shape[0] - rows, *piece.shape[1:]),
                          piece.offset + rows * piece.strides[0], piece.strides))
    return found


class _Block(NamedTuple):
    """A box of a checkpoint's tensor within one of Megatron's wholes: whole index = base + (index - start), dim by dim."""

    tensor: str
    start: tuple[int, ...]  # in the tensor
    base: tuple[int, ...]  # in the whole
    extents: tuple[int, ...]  # in the whole
    dims: tuple[int, ...]  # dim of the whole, for each dim of the tensor


class CheckpointNames:
    """The names of a Hugging Face checkpoint, with a layer's experts stacked, as reshard's texts have them."""

    def __init__(self, config: Any, mtp: int = 0):
        """config: as reshard.Layout.from_text takes it, of a family with a `megatron:` layout; mtp: how many layers for
        multi-token prediction the model has.

        Raises reshard.NotSupported for a family without such a layout, reshard.InvalidArgument for more of those layers
        than the config has.
        """
        # One rank holds every whole; float elements of 4 bytes, so that offsets say indices.
        self._layout = _whole_model(config, mtp)
        self._tensors = {tensor.name: tensor for tensor in self._layout.tensors}
        self._buffers: dict[str, list[reshard.Block]] = {}
        for block in self._layout.blocks(0):
            if block.kind == "data":
                self._buffers.setdefault(block.buffer, []).append(block)
        self._cache: dict[str, list[_Block]] = {}

    def parts(self, piece: Piece) -> list[Part]:
        if piece.whole not in self._cache:
            self._cache[piece.whole] = list(self._blocks(piece))
        found = [part for block in self._cache[piece.whole] if (part := _meet(piece, block)) is not None]
        missing = math.prod(piece.shape) - sum(math.prod(part.shape) for part in found)
        if missing and piece.whole in VOCABULARY:
            padding = [part for part in _split_rows(piece, self._vocabulary(piece)) if part.tensor is None]
            missing -= sum(math.prod(part.shape) for part in padding)
            found += padding
        if missing:
            raise reshard.InvalidArgument(f"{piece.parameter}: the config's model has only part of it: {missing} elements "
                                          f"of {piece.shape} from {piece.start} of {piece.whole_shape} are in no tensor")
        return found

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self._tensors[tensor].shape

    def group(self, tensor: str, num_layers: int) -> int:
        return self._tensors[tensor].group

    def _vocabulary(self, piece: Piece) -> int:
        return max(block.base[0] + block.extents[0] for block in self._cache[piece.whole])

    def _blocks(self, piece: Piece) -> Iterator[_Block]:
        buffer, strides = _buffer_of(piece)
        if buffer not in self._buffers:
            raise reshard.InvalidArgument(f"{piece.parameter}: the config's model has no such parameter ({buffer})")
        for block in self._buffers[buffer]:
            size_bytes = 8 if self._tensors[block.tensor].dtype in ("I64", "F64") else 4
            yield _in_whole(block, strides, size_bytes)


def _whole_model(config: Any, mtp: int) -> reshard.Layout:
    """All of the model on one rank. Experts grouped, where there are any: one buffer for all of a layer."""
    text = "megatron:tp=1,vocab_multiple=1" + (f",mtp={mtp}" if mtp else "")
    try:
        return reshard.Layout.from_text(config, text + ",experts=gmm", dtype="F32")
    except reshard.InvalidArgument:
        return reshard.Layout.from_text(config, text, dtype="F32")


def _buffer_of(piece: Piece) -> tuple[str, tuple[int, ...]]:
    """(name of the buffer that holds the whole in the layout of one rank, strides in elements there)."""
    experts = EXPERTS.fullmatch(piece.whole)
    if experts:  # experts one behind another, each [in, out]
        _, rows, columns = piece.whole_shape
        return f"{experts.group(1)}weight{experts.group(2)}", (rows * columns, 1, rows)
    name = piece.whole
    for fused, apart in FUSED_NORMS:
        if name.endswith(fused):
            name = name.removesuffix(fused) + apart
    shape = piece.whole_shape
    return name, tuple(math.prod(shape[dim + 1:]) for dim in range(len(shape)))


def _in_whole(block: reshard.Block, strides: Sequence[int], size_bytes: int) -> _Block:
    """Where a block of memory lies in a whole with these strides."""
    rest, base = block.offset_bytes // size_bytes, [0] * len(strides)
    for dim in sorted(range(len(strides)), key=lambda dim: -strides[dim]):
        base[dim], rest = divmod(rest, strides[dim])
    dims: list[int] = []
    for extent, stride in zip(block.shape, block.strides_bytes):
        fitting = [dim for dim in range(len(strides)) if strides[dim] * size_bytes == stride and dim not in dims]
        free = [dim for dim in range(len(strides)) if dim not in dims]
        if not fitting and extent != 1:
            raise reshard.NotSupported(f"{block.tensor}: lies in {block.buffer} in a way that no box of it has")
        dims.append((fitting or free)[0])
    extents = [1] * len(strides)
    for dim, extent in zip(dims, block.shape):
        extents[dim] = extent
    return _Block(block.tensor, block.start, tuple(base), tuple(extents), tuple(dims))


def _meet(piece: Piece, block: _Block) -> Part | None:
    """What of the block lies in the piece."""
    first = [max(a, b) for a, b in zip(piece.start, block.base)]
    last = [min(a + n, b + m) for a, n, b, m in zip(piece.start, piece.shape, block.base, block.extents)]
    if any(a >= b for a, b in zip(first, last)):
        return None
    offset = piece.offset + sum((a - b) * stride for a, b, stride in zip(first, piece.start, piece.strides))
    return Part(block.tensor,
                tuple(begin + first[dim] - block.base[dim] for begin, dim in zip(block.start, block.dims)),
                tuple(last[dim] - first[dim] for dim in block.dims), offset,
                tuple(piece.strides[dim] for dim in block.dims))
