# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Records what loaders copy, without copying: a dispatch mode of torch that follows views of checkpoint tensors.

The loaders run as they are. Checkpoint tensors lie on the meta device, which has shapes and no memory; copy_, fill_ and
zero_ into a parameter are noted and left out. Memory that loaders make on the way (clone, cat, stack, padding) is a
space of its own, through which a later copy is traced back. What is computed has no place in the checkpoint: it is
remembered as such, and an error only where it gets into a parameter.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reshard.vllm.boxes import NotABox, View, dense_strides
from reshard.vllm.space import ZERO, Computed, Origin, Space, Tensor, Zero

aten = torch.ops.aten
_WRITES_ZERO = {aten.zero_.default, aten.fill_.Scalar, aten.fill_.Tensor}
_MADE_OF_ZEROS = {aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default}
_MADE_EMPTY = {aten.empty.memory_format, aten.empty_strided.default, aten.new_empty.default,
               aten.new_empty_strided.default, aten.empty_like.default}
_COPIES = {aten.clone.default, aten._to_copy.default, aten.contiguous.default}
# aten.item() of a checkpoint tensor gives a number without meaning that no weight has, so that fill_ knows it again.
_MARK = -(2.0 ** 96)


class RecordingError(RuntimeError):
    """Loaders do something with a parameter that is no copy of checkpoint elements. The message names it."""


def storage_of(tensor: torch.Tensor) -> int:
    """Identity of a tensor's storage, also where it has no memory. Valid as long as the storage lives."""
    return tensor.untyped_storage()._cdata


def view_of(tensor: torch.Tensor) -> View:
    return View(int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride())


class Recorder(TorchDispatchMode):
    """While it is entered, writes to the parameters it was given are recorded and not done."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # whose wrapper costs more than all else here; nothing is compiled while loaders run

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[int, tuple[str, Space]] = {}  # by storage
        self.sources: dict[int, Tensor] = {}
        self.made: dict[int, Space | Computed] = {}
        self.taken: dict[int, set[int]] = {}  # by storage of a source: where views of it began that were copied
        self.keep: list[torch.Tensor] = []  # identities of storages hold while these live
        self.marks: dict[float, tuple[Tensor, View]] = {}
        self.values: dict[int, torch.Tensor] = {}  # of small tensors (tables of experts) that loaders moved to `meta`

    def add_parameter(self, name: str, tensor: torch.Tensor) -> None:
        """Records what is written into the tensor. Errors: RecordingError for memory with gaps."""
        try:
            space = Space(tensor.shape, tensor.stride(), int(tensor.storage_offset()))
        except NotABox as error:
            raise RecordingError(f"{name} cannot be recorded: {error}") from None
        self.parameters[storage_of(tensor)] = (name, space)
        self.keep.append(tensor)

    def source(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A checkpoint tensor without memory; it, or views of it, are to be given to the loaders."""
        tensor = torch.empty(shape, dtype=dtype, device="meta")
        self.sources[storage_of(tensor)] = Tensor(name, tuple(shape))
        self.made.pop(storage_of(tensor), None)  # where it was made while recording
        self.keep.append(tensor)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is aten.copy_.default:
            self._copy(args[0], args[1])
            return args[0]
        if func in _WRITES_ZERO:
            return self._fill(func, *args)
        if func is aten._local_scalar_dense.default:
            return self._number(func, args[0])
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            self._refuse_change(func, args, kwargs)
        out = func(*args, **kwargs)
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and not self._is_known(tensor):
                self._note(func, args, kwargs, tensor)
        return out

    # -- what is read -----------------------------------------------------------------------------------------------

    def _is_known(self, tensor: torch.Tensor) -> bool:
        storage = storage_of(tensor)
        return storage in self.sources or storage in self.parameters or storage in self.made

    def _read(self, tensor: torch.Tensor, to: View) -> list[tuple[Origin, View, View]]:
        """The origins of what a tensor holds, each part with its place in the view `to`."""
        storage, view = storage_of(tensor), view_of(tensor)
        if storage in self.sources and storage not in self.made:
            self.taken.setdefault(storage, set()).add(view.offset)
            return [(self.sources[storage], view, to)]
        if storage in self.parameters:
            return list(self.parameters[storage][1].read(view, to))
        made = self.made.get(storage, Computed("memory that no checkpoint tensor fills"))
        return list(made.read(view, to)) if isinstance(made, Space) else [(made, view, to)]

    def describe(self, tensor: torch.Tensor) -> str:
        storage = storage_of(tensor)
        if storage in self.sources:
            return self.sources[storage].name
        if storage in self.parameters:
            return self.parameters[storage][0]
        made = self.made.get(storage)
        if isinstance(made, Computed):
            return made.how
        return made.pieces[0].origin.name if made and made.pieces and isinstance(made.pieces[0].origin, Tensor) else ""

    def _number(self, func: Any, tensor: torch.Tensor) -> Any:
        if not tensor.is_meta:
            return func(tensor)
        storage = storage_of(tensor)
        if storage in self.values:
            return func(self._value(tensor))
        if storage not in self.sources:
            raise RecordingError(f"cannot be recorded: a loader asks for the value of {self.describe(tensor) or 'a tensor'}")
        mark = _MARK * (1.0 + len(self.marks) * 2.0 ** -40)
        self.marks[mark] = (self.sources[storage], view_of(tensor))
        return mark if tensor.dtype.is_floating_point else int(mark)

    def _value(self, tensor: torch.Tensor) -> torch.Tensor:
        """What a tensor holds that is no weight: its own memory, or that from which a loader copied it to `meta`."""
        if not tensor.is_meta:
            return tensor
        return self.values[storage_of(tensor)].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    # -- what is written --------------------------------------------------------------------------------------------

    def _space(self, tensor: torch.Tensor) -> Space | Computed | None:
        """The space in which a tensor lies; None for memory in which nobody is interested."""
        storage = storage_of(tensor)
        if storage in self.parameters:
            return self.parameters[storage][1]
        if storage in self.sources and storage not in self.made:  # a loader changes what it was given
            source = self.sources[storage]
            space = self.made[storage] = Space(source.shape, dense_strides(source.shape))
            whole = View(0, source.shape, space.strides)
            space.write([(source, whole, whole)])
        return self.made.get(storage)

    def _write(self, tensor: torch.Tensor, parts: Callable[[View], list[tuple[Origin, View, View]]]) -> None:
        view, space = view_of(tensor), self._space(tensor)
        if isinstance(space, Computed):
            return
        if space is None:
            # Memory from before: what else it holds is not known, and only the part that is written may be used.
            space = self.made[storage_of(tensor)] = _whole_storage(tensor)
            self.keep.append(tensor)
        try:
            space.write(parts(view))
        except NotABox as error:
            raise RecordingError(f"{self.describe(tensor) or 'a tensor'} cannot be recorded: a copy into it "
                                 f"{error}") from None

    def _copy(self, into: torch.Tensor, tensor: torch.Tensor) -> None:
        if tensor.shape != into.shape:
            tensor = tensor.expand(into.shape)
        if not into.numel():
            self._note_nothing(into, tensor)
            return
        self._write(into, lambda view: self._read(tensor, view))

    def _note_nothing(self, into: torch.Tensor, tensor: torch.Tensor) -> None:
        """A rank that has only the padding of a tensor still belongs to it."""
        space, source = self._space(into), self.sources.get(storage_of(tensor))
        if isinstance(space, Space) and source is not None:
            space.beside = source

    def _fill(self, func: Any, into: torch.Tensor, value: Any = 0) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            value = self._number(aten._local_scalar_dense.default, value)
        mark = self.marks.get(float(value))
        if mark:
            origin: Origin = mark[0]
            theirs = View(mark[1].offset, tuple(into.shape), (0,) * into.dim())
        else:
            origin = Zero(self.sources.get(storage_of(into))) if value == 0 else Computed(f"{func} with {value}")
            theirs = View(0, tuple(into.shape), (0,) * into.dim())
        if self._space(into) is not None:
            self._write(into, lambda view: [(origin, theirs, view)])
        elif not into.is_meta:
            func(into, value) if func is not aten.zero_.default else func(into)
        return into

    def _refuse_change(self, func: Any, args: tuple, kwargs: dict) -> None:
        """In place is more than a copy: `mul_` of a parameter, say. A change of what a loader made makes it computed."""
        for tensor in (*args, *kwargs.values()):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = storage_of(tensor)
            if storage in self.parameters and tensor is args[0]:
                raise RecordingError(f"{self.parameters[storage][0]} cannot be recorded: a loader changes it by {func}")
            if (storage in self.made or storage in self.sources) and tensor is args[0]:
                self.made[storage] = Computed(f"{func} of {self.describe(tensor)}")

    # -- what is made on the way ------------------------------------------------------------------------------------

    def _note(self, func: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
        """Remembers what a new tensor is: empty, zeros, a copy of others, or computed from a tensor we know."""
        known = [tensor for tensor in _flat(args) + _flat(tuple(kwargs.values())) if self._is_known(tensor)]
        is_zero, is_empty = func in _MADE_OF_ZEROS, func in _MADE_EMPTY
        if func is aten._to_copy.default and out.is_meta and not args[0].is_meta and not out.is_floating_point():
            self.keep.append(out)
            self.values[storage_of(out)] = args[0].to(out.dtype).clone(memory_format=torch.contiguous_format)
            return
        if not known and not (is_zero or is_empty):
            return
        self.keep.append(out)
        self.made[storage_of(out)] = Computed(f"{func} of {self.describe(known[0])}" if known else str(func))
        parts = [] if is_empty else [(ZERO, _repeated(out), view_of(out))] if is_zero else self._parts(func, args, kwargs,
                                                                                                     out)
        if parts is None:
            return
        try:
            space = _whole_storage(out)
            space.write(parts)
        except NotABox:
            return  # it stays computed, and is refused where it gets into a parameter
        self.made[storage_of(out)] = space

    def _parts(self, func: Any, args: tuple, kwargs: dict,
               out: torch.Tensor) -> list[tuple[Origin, View, View]] | None:
        """Of which parts of tensors that we know `out` was put together; None for arithmetic."""
        if func in _COPIES:
            return self._read(args[0], view_of(out)) if _keeps_values(args[0].dtype, out.dtype) else None
        if func is aten.cat.default:
            return self._joined(args[0], out, args[1] if len(args) > 1 else kwargs.get("dim", 0))
        if func is aten.stack.default:
            dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
            return self._joined([tensor.unsqueeze(dim) for tensor in args[0]], out, dim)
        if func in (aten.index_select.default, aten.index.Tensor):
            return self._selected(func, args, out)
        if func is aten.constant_pad_nd.default and (len(args) < 3 or args[2] == 0):
            return self._padded(args[0], args[1], out)
        return None

    def _joined(self, tensors: list[torch.Tensor], out: torch.Tensor, dim: int) -> list[tuple[Origin, View, View]]:
        parts, begin = [], 0
        for tensor in tensors:
            if tensor.numel():
                parts += self._read(tensor, view_of(out.narrow(dim, begin, tensor.shape[dim])))
                begin += tensor.shape[dim]
        return parts

    def _selected(self, func: Any, args: tuple, out: torch.Tensor) -> list[tuple[Origin, View, View]] | None:
        """By a list of indices along one dim, such as the experts of a rank."""
        if func is aten.index_select.default:
            dim, index = args[1] % args[0].dim(), args[2]
        else:
            given = [(dim, index) for dim, index in enumerate(args[1]) if index is not None]
            if len(given) != 1:
                return None
            dim, index = given[0]
        if index.dim() != 1 or index.dtype == torch.bool or (index.is_meta and storage_of(index) not in self.values):
            return None
        parts = []
        for place, chosen in enumerate(self._value(index).tolist()):
            parts += self._read(args[0].select(dim, chosen), view_of(out.select(dim, place)))
        return parts

    def _padded(self, tensor: torch.Tensor, pad: list[int], out: torch.Tensor) -> list[tuple[Origin, View, View]] | None:
        if any(width < 0 for width in pad):
            return None
        inner = out
        for index in range(len(pad) // 2):
            dim = tensor.dim() - 1 - index
            inner = inner.narrow(dim, pad[2 * index], tensor.shape[dim])
        return [(ZERO, _repeated(out), view_of(out)), *self._read(tensor, view_of(inner))]


def _flat(values: tuple) -> list[torch.Tensor]:
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [tensor for tensor in value if isinstance(tensor, torch.Tensor)]
    return found


def _whole_storage(tensor: torch.Tensor) -> Space:
    """The space of a tensor that is dense in its storage; for a part of one, the storage as a vector."""
    num_elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() == num_elements and tensor.storage_offset() == 0:
        return Space(tensor.shape, tensor.stride())
    return Space((num_elements,), (1,))


def _repeated(tensor: torch.Tensor) -> View:
    return View(0, tuple(tensor.shape), (0,) * tensor.dim())


def _keeps_values(old: torch.dtype, new: torch.dtype) -> bool:
    """Whether a conversion loses nothing, so that the parameter's own dtype alone decides what it holds."""
    return old == new or torch.promote_types(old, new) == new
