# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Where an array lies: numpy's and CUDA's array interfaces, DLPack, the buffer protocol, or an address of one's own.

Nothing is copied or kept but a reference; the memory stays its owner's.
"""
from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

from ._errors import InvalidArgument, NotSupported
from ._library import ffi, lib

# DLPack's ABI, of which only the part that all its versions share is read.
ffi.cdef("""
typedef struct { int32_t device_type; int32_t device_id; } reshard_dlpack_device;
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } reshard_dlpack_type;
typedef struct {
  void* data; reshard_dlpack_device device; int32_t ndim; reshard_dlpack_type dtype; int64_t* shape; int64_t* strides;
  uint64_t byte_offset;
} reshard_dlpack_tensor;
""")
DLPACK_CPU, DLPACK_CUDA, DLPACK_CUDA_HOST, DLPACK_CUDA_MANAGED = 1, 2, 3, 13
HOST_DEVICES = {DLPACK_CPU, DLPACK_CUDA_HOST}  # pinned memory is host memory
CUDA_DEVICES = {DLPACK_CUDA, DLPACK_CUDA_MANAGED}
NO_SYNC = -1  # where DLPack asks for a stream: binding takes addresses only, runs are ordered by their own stream

capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


@dataclass(frozen=True)
class Memory:
    """Bytes at an address. Make one by hand for memory that no array describes.

    ptr: the address. size_bytes: how much there is. device: index of the CUDA device whose memory it is, None for memory
    of the host. is_writable: a destination must be. owner: kept alive as long as the Memory is.
    """
    ptr: int
    size_bytes: int
    device: int | None = None
    is_writable: bool = True
    owner: Any = None


def memory_of(array: Any) -> Memory:
    """Where `array` lies. Raises InvalidArgument for arrays whose elements do not lie row-major without gaps: a layout
    speaks of the bytes of a buffer, so give the array that was allocated, or a Memory.
    """
    if isinstance(array, Memory):
        return array
    if hasattr(array, "data_ptr"):
        return of_torch(array)
    if hasattr(array, "__cuda_array_interface__"):
        return of_interface(array, array.__cuda_array_interface__, is_cuda=True)
    if hasattr(array, "__array_interface__"):
        return of_interface(array, array.__array_interface__, is_cuda=False)
    if hasattr(array, "__dlpack__"):
        return of_dlpack(array)
    try:
        view = memoryview(array)
    except TypeError:
        raise InvalidArgument(f"{type(array).__name__} is no array: it has neither __dlpack__, __array_interface__, "
                              "__cuda_array_interface__ nor the buffer protocol; reshard.Memory takes an address") from None
    if not view.c_contiguous:
        raise gaps(array, view.shape, view.strides)
    address = int(ffi.cast("uintptr_t", ffi.from_buffer(view))) if view.nbytes else 0
    return Memory(address, view.nbytes, None, not view.readonly, view)


def gaps(array: Any, shape: Any, strides: Any) -> InvalidArgument:
    return InvalidArgument(f"{type(array).__name__} of shape {tuple(shape)} and strides {tuple(strides)} does not lie "
                           "row-major without gaps; give the array that was allocated, or a reshard.Memory")


def is_dense(shape: Any, strides: Any, unit: int) -> bool:
    """Whether elements lie row-major without gaps; strides None says so. Strides of extents 0 and 1 mean nothing."""
    if strides is None or 0 in shape:
        return True
    expected = unit
    for extent, stride in zip(reversed(shape), reversed(strides)):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def of_torch(tensor: Any) -> Memory:
    """Of a torch tensor, also one that requires a gradient or of a dtype that DLPack has not got, without torch."""
    if not tensor.is_contiguous():
        raise gaps(tensor, tensor.shape, tensor.stride())
    if tensor.device.type not in ("cpu", "cuda"):
        raise NotSupported(f"memory of {tensor.device} cannot be bound; it must be of the host or of a CUDA device")
    device = tensor.device.index if tensor.device.type == "cuda" else None
    return Memory(tensor.data_ptr(), tensor.numel() * tensor.element_size(), device, True, tensor)


def of_interface(array: Any, interface: dict[str, Any], is_cuda: bool) -> Memory:
    """From numpy's array interface or CUDA's, which is the same but for the device that it does not name."""
    shape, unit = interface["shape"], int(interface["typestr"][2:])
    address, is_readonly = interface["data"]
    if not is_dense(shape, interface.get("strides"), unit):
        raise gaps(array, shape, interface["strides"])
    device = None
    if is_cuda:
        device = array.__dlpack_device__()[1] if hasattr(array, "__dlpack_device__") else array.device.id
    return Memory(address, math.prod(shape) * unit, device, not is_readonly, array)


def of_dlpack(array: Any) -> Memory:
    """From a DLPack capsule, which is held and not consumed: dropping it gives the memory back to its owner."""
    kind, index = array.__dlpack_device__()
    if kind not in HOST_DEVICES | CUDA_DEVICES:
        raise NotSupported(f"{type(array).__name__} lies on a device of DLPack's type {int(kind)}; host (1, 3) and CUDA "
                           "(2, 13) memory can be bound")
    capsule = array.__dlpack__(stream=NO_SYNC) if kind in CUDA_DEVICES else array.__dlpack__()
    tensor = ffi.cast("reshard_dlpack_tensor*", capsule_pointer(capsule, b"dltensor"))
    shape = [tensor.shape[d] for d in range(tensor.ndim)]
    strides = None if tensor.strides == ffi.NULL else [tensor.strides[d] for d in range(tensor.ndim)]
    if not is_dense(shape, strides, 1):  # DLPack counts strides in elements
        raise gaps(array, shape, strides)
    size_bytes = (math.prod(shape) * tensor.dtype.bits * tensor.dtype.lanes + 7) // 8
    address = int(ffi.cast("uintptr_t", tensor.data)) + tensor.byte_offset if size_bytes else 0
    return Memory(address, size_bytes, int(index) if kind in CUDA_DEVICES else None, True, (array, capsule))


def fill_buffer(buffer: Any, buffer_id: int, memory: Memory) -> None:
    """Fills a reshard_buffer_t, as its init function left it."""
    buffer.id, buffer.size_bytes = buffer_id, memory.size_bytes
    buffer.ptr = ffi.cast("void*", memory.ptr)
    if memory.device is not None:
        buffer.memory, buffer.device = lib.RESHARD_MEMORY_CUDA, memory.device
