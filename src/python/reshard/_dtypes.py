# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Element types under the names of safetensors, from whatever names them: numpy, torch, ml_dtypes, or a text."""
from __future__ import annotations

from typing import Any

from ._errors import InvalidArgument

# By the number of reshard_dtype_t.
NAMES = ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64",
         "I64", "F64")
SIZES = (1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8)  # bytes of an element
NUMBERS = {name: number for number, name in enumerate(NAMES)}

# The names that numpy, torch and ml_dtypes use, without their module.
ALIASES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "uint16": "U16", "int16": "I16", "float16": "F16", "half": "F16", "bfloat16": "BF16",
    "uint32": "U32", "int32": "I32", "float32": "F32", "float": "F32", "uint64": "U64", "int64": "I64",
    "float64": "F64", "double": "F64",
}


def dtype_name(dtype: Any) -> str:
    """The safetensors name of "BF16", torch.bfloat16, numpy.dtype("float32"), numpy.float32, float, ...

    Raises InvalidArgument for a type that reshard does not have, e.g. complex numbers.
    """
    if isinstance(dtype, type):
        name = dtype.__name__
        name = {"float": "float64", "int": "int64"}.get(name, name)  # Python's own, as numpy takes them
    else:
        name = str(dtype).rpartition(".")[2]  # torch.bfloat16
    if name.upper() in NUMBERS:
        return name.upper()
    if name in ALIASES:
        return ALIASES[name]
    raise InvalidArgument(f"dtype {dtype!r} is not one of {', '.join(NAMES)}, nor numpy's or torch's name of one")


def dtype_number(dtype: Any) -> int:
    return NUMBERS[dtype_name(dtype)]


def dtype_size_bytes(dtype: Any) -> int:
    """Bytes of one element."""
    return SIZES[dtype_number(dtype)]
