# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Layouts: which rank holds which elements of which tensor, and where in its memory."""
from __future__ import annotations

import json
import os
import pathlib
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np

from ._dtypes import NAMES, dtype_name
from ._errors import InvalidArgument
from ._library import chars, check, created, ffi, lib, microseconds, struct, text, text_of, value

KINDS = ("data", "zero", "untouched")  # by the number of reshard_block_kind_t


class TensorInfo(NamedTuple):
    """A logical tensor. dtype: safetensors name; group: completion group, e.g. the layer."""
    name: str
    dtype: str
    shape: tuple[int, ...]
    group: int


class BufferInfo(NamedTuple):
    """An allocation of one rank. size_bytes: the smallest size that holds all its blocks."""
    id: int
    name: str
    size_bytes: int


class Block(NamedTuple):
    """A rank's strided piece of a tensor: box [start, start + shape) of its elements, at offset_bytes of the buffer.

    kind: "data"; "zero", padding that runs fill with zeros; "untouched", padding that is never written.
    local_start: where the box begins in the rank's local tensor.
    """
    tensor: str
    rank: int
    buffer: str
    kind: str
    start: tuple[int, ...]
    shape: tuple[int, ...]
    local_start: tuple[int, ...]
    offset_bytes: int
    strides_bytes: tuple[int, ...]


def block_dtype() -> np.dtype[Any]:
    """reshard_block_t as numpy sees it, so that thousands of blocks are filled and read by columns."""
    fields = dict(ffi.typeof("reshard_block_t").fields)
    kinds = {"struct_size": "u8", "version": "u4", "kind": "i4", "rank": "i4"}
    formats = [kinds.get(name, "i8" if field.type.kind == "primitive" else ("i8", (lib.RESHARD_MAX_DIMS,)))
               for name, field in fields.items()]
    return np.dtype({"names": list(fields), "formats": formats, "offsets": [field.offset for field in fields.values()],
                     "itemsize": ffi.sizeof("reshard_block_t")})


BLOCK_DTYPE = block_dtype()


def config_text(config: Any) -> str:
    """A config.json as text: of a dict, an object with to_dict() (transformers), a path of the file or of its folder, or
    the JSON text itself."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, dict):
        return json.dumps(config, default=lambda other: str(other).rpartition(".")[2])  # torch.bfloat16
    if isinstance(config, str) and config.lstrip().startswith("{"):
        return config
    path = pathlib.Path(config)
    return (path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8")


class Layout:
    """One side of a transfer. Made by LayoutBuilder or the class methods; does not change."""

    def __init__(self, handle: Any):
        self.handle = handle
        self._tensors: list[TensorInfo] | None = None

    # ----------------------------------------------------------------------------------------------------- making

    @classmethod
    def from_text(cls, config: Any, text: str, *, ranks: Sequence[int] | None = None, first_rank: int = 0,
                  num_ranks: int = 0, dtype: Any = None, num_layers: int = 0, include: str | None = None,
                  exclude: str | None = None) -> Layout:
        """The layout of a whole model, needing no framework.

        config: dict, transformers' config, path, or JSON text of a Hugging Face config.json.
        text: e.g. "fsdp:shard=8", "megatron:tp=2,pp=2,dp=2,ep=4", "vllm:tp=2,replicas=4", "checkpoint".
        ranks: the world's ranks that stand for ranks 0, 1, ... of the text; or first_rank, from which they count up.
        num_ranks: size of the world; 0: as many as are needed. dtype: of the tensors; None: the config's.
        num_layers: only the first so many; 0: all. include, exclude: patterns of tensors, separated by commas.
        """
        options = struct("model_options")
        keep = [chars(config_text(config)), chars(text), chars(dtype_name(dtype) if dtype is not None else None),
                chars(include), chars(exclude)]
        options.config_json, options.layout, options.dtype, options.include, options.exclude = keep
        options.num_layers, options.first_rank, options.num_ranks = num_layers, first_rank, num_ranks
        if ranks is not None:
            rank_list = ffi.new("int32_t[]", list(ranks) or [0])
            options.rank_list, options.rank_list_size = rank_list, len(ranks)
        return cls(created("layout", lib.reshard_layout_create_from_model, options))

    @classmethod
    def from_spec(cls, spec: Any) -> tuple[Layout, Layout]:
        """(source, destination) of the general JSON form (README, "The general form"): a dict, or JSON text."""
        src, dst = ffi.new("reshard_layout_t*"), ffi.new("reshard_layout_t*")
        given = spec if isinstance(spec, str) else json.dumps(spec)
        check(lib.reshard_layout_create_from_spec(chars(given), src, dst))
        return tuple(cls(ffi.gc(made[0], lib.reshard_layout_destroy)) for made in (src, dst))  # type: ignore[return-value]

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Layout:
        """Reads what to_bytes gave. The bytes are not trusted: InvalidArgument for what is no layout."""
        view = ffi.from_buffer(data)
        return cls(created("layout", lib.reshard_layout_deserialize, view, len(view)))

    def to_bytes(self) -> bytes:
        """The layout as bytes, for a file or another process; plans of what is read back are equal."""
        data, size_bytes = ffi.new("const void**"), ffi.new("size_t*")
        check(lib.reshard_layout_serialize(self.handle, data, size_bytes))
        return bytes(ffi.buffer(data[0], size_bytes[0]))

    def __reduce__(self) -> Any:  # layouts may be sent by pickle, as torch.distributed and Ray do
        return Layout.from_bytes, (self.to_bytes(),)

    def exchange(self, comm: Any, timeout: float = 60.0) -> Layout:
        """Collective: each rank has described only its own blocks here; the result holds all ranks', equal on each.

        timeout: seconds. Raises LayoutMismatch when shapes differ.
        """
        return Layout(created("layout", lib.reshard_layout_exchange, self.handle, comm.handle, microseconds(timeout)))

    def without_ranks(self, ranks: Iterable[int]) -> Layout:
        """The same, but that these ranks hold nothing, e.g. a replica that is lost; the world keeps its size."""
        copy, gone = Layout.from_bytes(self.to_bytes()), list(ranks)
        check(lib.reshard_layout_remove_ranks(copy.handle, len(gone), ffi.new("int32_t[]", gone or [0])))
        return copy

    # ---------------------------------------------------------------------------------------------------- reading

    @property
    def num_ranks(self) -> int:
        """Size of the world, ranks that hold nothing included."""
        return value("int32_t", lib.reshard_layout_num_ranks, self.handle)

    @property
    def tensors(self) -> list[TensorInfo]:
        """In the order in which they were added."""
        if self._tensors is None:
            count = value("int64_t", lib.reshard_layout_num_tensors, self.handle)
            self._tensors = [self._tensor(index) for index in range(count)]
        return self._tensors

    def _tensor(self, index: int) -> TensorInfo:
        info = struct("tensor_info")
        check(lib.reshard_layout_get_tensor(self.handle, index, info))
        return TensorInfo(text(info.name), NAMES[info.dtype], tuple(info.shape[0:info.num_dims]), info.group)

    def find(self, name: str) -> int | None:
        """The index of a tensor, None when there is none of that name."""
        index = value("int64_t", lib.reshard_layout_find_tensor, self.handle, chars(name))
        return None if index < 0 else index

    def buffers(self, rank: int) -> list[BufferInfo]:
        """The buffers that a rank brings to a Session."""
        found, info = [], struct("buffer_info")
        for index in range(value("int64_t", lib.reshard_layout_num_buffers, self.handle, rank)):
            check(lib.reshard_layout_get_buffer(self.handle, rank, index, info))
            found.append(BufferInfo(info.id, text(info.name), info.size_bytes))
        return found

    def local_shape(self, rank: int, name: str) -> tuple[int, ...] | None:
        """A tensor's shape on a rank, padding included; None where the rank has nothing of it. An empty shard is there."""
        index = self.find(name)
        if index is None:
            raise InvalidArgument(f"the layout has no tensor {name!r}")
        is_present, shape = ffi.new("int32_t*"), ffi.new("int64_t[]", lib.RESHARD_MAX_DIMS)
        check(lib.reshard_layout_get_local_shape(self.handle, rank, index, is_present, shape))
        return tuple(shape[0:len(self.tensors[index].shape)]) if is_present[0] else None

    def block_table(self, rank: int) -> np.ndarray[Any, Any]:
        """All blocks of a rank, padding included, as a structured array with the fields of reshard_block_t: `tensor` and
        `buffer` are indices and ids, `begin`, `end`, `local_begin` and `strides_bytes` have 8 columns."""
        count = value("int64_t", lib.reshard_layout_get_blocks, self.handle, rank, 0, ffi.NULL)
        table = np.zeros(max(1, count), BLOCK_DTYPE)
        pointer = ffi.cast("reshard_block_t*", table.ctypes.data)
        lib.reshard_block_init_sized(pointer, BLOCK_DTYPE.itemsize)
        check(lib.reshard_layout_get_blocks(self.handle, rank, count, pointer, ffi.new("int64_t*")))
        return table[:count]

    def blocks(self, rank: int) -> list[Block]:
        """All blocks of a rank, padding included, tensor by tensor."""
        names = {buffer.id: buffer.name for buffer in self.buffers(rank)}
        found = []
        for row in self.block_table(rank):
            tensor = self.tensors[row["tensor"]]
            dims = len(tensor.shape)
            begin, end, local, strides = (tuple(row[field][:dims].tolist())
                                          for field in ("begin", "end", "local_begin", "strides_bytes"))
            shape = tuple(e - b for b, e in zip(begin, end))
            found.append(Block(tensor.name, rank, names[row["buffer"]], KINDS[row["kind"]], begin, shape, local,
                               int(row["offset_bytes"]), strides))
        return found

    def describe(self, rank: int) -> str:
        """What lies on a rank, for people: its buffers, and in each the blocks in the order of their bytes."""
        return text_of(lib.reshard_layout_describe_rank, self.handle, rank)

    def __repr__(self) -> str:
        return f"<reshard.Layout of {len(self.tensors)} tensors on {self.num_ranks} ranks>"


def num_ranks_of(text: str) -> int:
    """How many ranks a line of text such as "vllm:tp=2,replicas=4" needs."""
    return value("int32_t", lib.reshard_layout_text_num_ranks, chars(text))
