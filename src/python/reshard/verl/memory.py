# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""torch's view of reshard's memory."""
from __future__ import annotations

import ctypes
import math
from typing import Any, Sequence

import reshard
import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
          "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


class _CudaBytes:
    """CUDA's array interface, of bytes at an address."""

    def __init__(self, ptr: int, size_bytes: int, owner: Any):
        self.__cuda_array_interface__ = {"shape": (size_bytes,), "typestr": "|u1", "data": (ptr, False), "version": 3}
        self.owner = owner


def tensor_of(memory: reshard.Memory, offset_bytes: int, shape: Sequence[int], dtype: str) -> torch.Tensor:
    """A tensor at an offset of memory that is not copied, and must outlive it."""
    kind = DTYPES[dtype]
    size_bytes = math.prod(shape) * kind.itemsize
    if not size_bytes:
        return torch.empty(tuple(shape), dtype=kind)
    ptr = memory.ptr + offset_bytes
    if memory.device is None:
        raw = torch.frombuffer((ctypes.c_char * size_bytes).from_address(ptr), dtype=torch.uint8)
    else:
        raw = torch.as_tensor(_CudaBytes(ptr, size_bytes, memory.owner), device=f"cuda:{memory.device}")
    return raw.view(kind).view(tuple(shape))
