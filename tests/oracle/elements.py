# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Element values and float conversions, on integer bits only."""

SIZE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}

# (exponent bits, mantissa bits) of the dtypes that convert into each other.
FLOAT_FORMATS = {"F32": (8, 23), "BF16": (8, 7), "F16": (5, 10)}

MASK64 = (1 << 64) - 1


def convertible(src, dst):
    return src == dst or (src in FLOAT_FORMATS and dst in FLOAT_FORMATS)


def fnv1a64(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK64
    return value


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def encode_float(sign, numerator, exponent, dtype):
    """Bits of (-1)^sign * numerator * 2^exponent in dtype, rounded to nearest, ties to even; overflow is infinity."""
    exp_bits, man_bits = FLOAT_FORMATS[dtype]
    bias = (1 << (exp_bits - 1)) - 1
    sign_bit = sign << (exp_bits + man_bits)
    if numerator == 0:
        return sign_bit
    top = exponent + numerator.bit_length() - 1  # the value lies in [2^top, 2^(top+1))
    unit = max(top, 1 - bias) - man_bits  # the spacing of representable numbers there is 2^unit
    shift = unit - exponent
    if shift <= 0:
        mantissa = numerator << -shift
    else:
        mantissa, rest = numerator >> shift, numerator & ((1 << shift) - 1)
        half = 1 << (shift - 1)
        if rest > half or (rest == half and mantissa & 1):
            mantissa += 1
    # A carry out of the mantissa raises the exponent field by one, which is what adding does.
    biased = unit + man_bits + bias  # exponent field of a normal number with this unit
    bits = ((biased - 1) << man_bits) + mantissa
    infinity = ((1 << exp_bits) - 1) << man_bits
    return sign_bit | min(bits, infinity)


def decode_float(bits, dtype):
    """(sign, numerator, exponent) of a finite number, or (sign, 'inf' or 'nan', 0)."""
    exp_bits, man_bits = FLOAT_FORMATS[dtype]
    sign = bits >> (exp_bits + man_bits)
    field = (bits >> man_bits) & ((1 << exp_bits) - 1)
    mantissa = bits & ((1 << man_bits) - 1)
    if field == (1 << exp_bits) - 1:
        return sign, "nan" if mantissa else "inf", 0
    bias = (1 << (exp_bits - 1)) - 1
    if field == 0:
        return sign, mantissa, 1 - bias - man_bits
    return sign, mantissa | (1 << man_bits), field - bias - man_bits


def is_nan(bits, dtype):
    return dtype in FLOAT_FORMATS and decode_float(bits, dtype)[1] == "nan"


def convert(bits, src, dst):
    """Bits of the dst number nearest to the src number. Any NaN becomes the plain quiet NaN of its sign."""
    if src == dst:
        return bits
    sign, numerator, exponent = decode_float(bits, src)
    exp_bits, man_bits = FLOAT_FORMATS[dst]
    if numerator in ("inf", "nan"):
        quiet = 1 << (man_bits - 1) if numerator == "nan" else 0
        return (sign << (exp_bits + man_bits)) | (((1 << exp_bits) - 1) << man_bits) | quiet
    return encode_float(sign, numerator, exponent, dst)


def element_bits(name_hash, index, src, dst, side):
    """Bits that element `index` has on one side ('src' or 'dst') when no file gives the values."""
    z = splitmix64((name_hash + index) & MASK64)
    dtype = src if side == "src" else dst
    if src != dst:
        number = z % 255 - 127
        return encode_float(int(number < 0), abs(number), 0, dtype)
    if dtype == "BOOL":
        return z & 1
    return z & ((1 << (8 * SIZE_BYTES[dtype])) - 1)


def tensor_bytes(name, num_elements, src, dst, side):
    """All elements of a tensor on one side, row-major and little-endian."""
    size = SIZE_BYTES[src if side == "src" else dst]
    name_hash = fnv1a64(name.encode("utf-8"))
    return b"".join(
        element_bits(name_hash, i, src, dst, side).to_bytes(size, "little") for i in range(num_elements))


def convert_bytes(data, src, dst):
    if src == dst:
        return data
    src_size, dst_size = SIZE_BYTES[src], SIZE_BYTES[dst]
    known = {}
    out = []
    for at in range(0, len(data), src_size):
        bits = int.from_bytes(data[at:at + src_size], "little")
        if bits not in known:
            known[bits] = convert(bits, src, dst).to_bytes(dst_size, "little")
        out.append(known[bits])
    return b"".join(out)
