# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""8-bit floats and their scales by their definitions, in numpy: an oracle that shares nothing with the library.

E4M3 (OCP 8-bit floats, no infinities): sign, 4 bits of exponent with bias 7, 3 of fraction; the code 0x7f is NaN. A value
is rounded to the nearest code, ties to the even one, and what is above 448 becomes 448. E8M0: 2^(code - 127).
"""
import numpy as np

try:  # where it is there, a second opinion: see check_against_ml_dtypes
    import ml_dtypes
except ImportError:
    ml_dtypes = None

F32 = np.float32


def e4m3_values():
    """The values of the codes 0 to 0x7e, ascending."""
    codes = np.arange(0x7f)
    exponent, fraction = codes >> 3, codes & 7
    return np.where(exponent == 0, fraction * 2.0 ** -9, (8 + fraction) * 2.0 ** (exponent - 10.0))


E4M3 = e4m3_values()


def e4m3_from(values):
    """Codes of float32 values, none of them NaN."""
    magnitude = np.minimum(np.abs(values.astype(np.float64)), 448.0)
    above = np.searchsorted(E4M3, magnitude)  # the first code that is not less
    below = np.maximum(above - 1, 0)
    up, down = E4M3[above] - magnitude, magnitude - E4M3[below]
    takes_below = (down < up) | ((down == up) & (below % 2 == 0))
    codes = np.where((E4M3[above] != magnitude) & takes_below, below, above).astype(np.uint8)
    return codes | np.where(np.signbit(values), np.uint8(0x80), np.uint8(0))


def e4m3_to(codes):
    return np.where(codes & 0x80, -E4M3[codes & 0x7f], E4M3[codes & 0x7f]).astype(F32)


def bf16_from(values):
    """To the nearest, ties to even; none of them NaN."""
    bits = np.ascontiguousarray(values, F32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_to(bits):
    return (bits.astype(np.uint32) << 16).view(F32)


def e8m0_to(codes):
    return np.ldexp(F32(1), codes.astype(np.int32) - 127).astype(F32)


def check_against_ml_dtypes(rng):
    """Whether the formulas above and another implementation agree; None where that is not installed."""
    if ml_dtypes is None:
        return None
    values = (rng.standard_normal(100000) * 10.0 ** rng.uniform(-5, 3, 100000)).astype(F32)
    halfway = ((E4M3[1:] + E4M3[:-1]) / 2).astype(F32)
    values = np.clip(np.concatenate([values, halfway, -halfway, E4M3.astype(F32)]), -448, 448).astype(F32)
    codes = np.arange(255, dtype=np.uint8)
    same = np.array_equal(values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8), e4m3_from(values))
    same &= np.array_equal(values.astype(ml_dtypes.bfloat16).view(np.uint16), bf16_from(values))
    same &= np.array_equal(codes[:127].view(ml_dtypes.float8_e4m3fn).astype(F32), e4m3_to(codes[:127]))
    return bool(same & np.array_equal(codes.view(ml_dtypes.float8_e8m0fnu).astype(F32), e8m0_to(codes)))


# ------------------------------------------------------------------------------------------------------------ blocks

def block_of(kind, shape, scale_shape):
    """Extents of the elements that share a scale, by dimension."""
    n = len(shape)
    if kind == "block128":
        return [1] * (n - 2) + [128, 128]
    if kind == "mxfp8":
        return [1] * (n - 1) + [32]
    if kind == "channel":
        return [1] * (n - 1) + [max(1, shape[-1])]
    whole = [max(1, extent) for extent in shape]
    return whole if len(scale_shape) == 0 or scale_shape == [1] else [1] * (n - 2) + whole[n - 2:]


def scale_shape(kind, shape, rng):
    """A shape that the kind allows."""
    if kind == "block128":
        return shape[:-2] + [-(-shape[-2] // 128), -(-shape[-1] // 128)]
    if kind == "mxfp8":
        return shape[:-1] + [-(-shape[-1] // 32)]
    if kind == "channel":
        return shape[:-1] + ([1] if rng.random() < 0.5 else [])
    if len(shape) > 2 and rng.random() < 0.5:
        return shape[:-2]
    return [] if rng.random() < 0.5 else [1]


def spread(scales, shape, block):
    """Each element's scale."""
    full = list(scales.shape) + [1] * (len(shape) - scales.ndim)
    scales = scales.reshape(full)
    index = np.ix_(*[np.minimum(np.arange(extent) // size, full[d] - 1)
                     for d, (extent, size) in enumerate(zip(shape, block))])
    return scales[index]


def computed_scales(kind, values, block):
    """As the servers that read them compute them: F32, or codes of E8M0."""
    amax = np.abs(values)
    for dim, size in enumerate(block):
        amax = np.maximum.reduceat(amax, np.arange(0, values.shape[dim], size), axis=dim)
    if kind == "block128":
        return np.maximum(amax, F32(1e-4)) / F32(448)
    exponent = np.floor(np.log2(np.maximum(amax.astype(np.float64), 2.0 ** -149)))
    for _ in range(2):  # log2 may be off by one beside a power of two
        exponent = np.where(2.0 ** exponent > amax, exponent - 1, exponent)
        exponent = np.where(2.0 ** (exponent + 1) <= amax, exponent + 1, exponent)
    power = exponent - 8
    power = np.where(448.0 * 2.0 ** power < amax, power + 1, power)
    return np.clip(power + 127, 0, 254).astype(np.uint8)


def as_f32(scales):
    return e8m0_to(scales) if scales.dtype == np.uint8 else scales


def quantise(values, scales, block):
    factors = F32(1) / as_f32(scales)
    with np.errstate(over="ignore"):
        return e4m3_from(values * spread(factors, values.shape, block))


def dequantise(codes, scales, block):
    return e4m3_to(codes) * spread(as_f32(scales), codes.shape, block)
