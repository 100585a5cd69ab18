#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Makes NCCL small: the device code of one architecture stays, that of all others, and debug information, become zeros.

usage: cut_nccl.py LIBNCCL ARCHITECTURE OUT       e.g. cut_nccl.py libnccl.so.2 90 out.so

No byte moves, so that every address in the file still holds: it loads, reports its version, and works on devices of the
architecture. Zeros take no room once they are compressed. Of the containers of device code only the headers are read:
  container  magic u32, version u16, header bytes u16, size u64 of what follows the header
  entry      kind u16 (1: PTX, 2: code of one architecture), u16, header bytes u32, payload bytes u64, u32, u32,
             minor u16, major u16, architecture u32
"""

import struct
import subprocess
import sys

CONTAINER_MAGIC = 0xBA55ED50
CODE = 2


def sections(path):
    """{name: (offset, size)} of the sections that lie in the file."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            sys.exit("%s is no library of a 64-bit little-endian machine" % path)
        (table,) = struct.unpack_from("<Q", head, 0x28)
        entry_size, count, names_index = struct.unpack_from("<HHH", head, 0x3A)
        file.seek(table)
        raw = file.read(entry_size * count)
        entries = [struct.unpack_from("<IIQQQQ", raw, i * entry_size) for i in range(count)]
        file.seek(entries[names_index][4])
        names = file.read(entries[names_index][5])
    found = {}
    for name, kind, _, _, offset, size in entries:
        if kind != 8:  # SHT_NOBITS
            found[names[name:names.index(b"\0", name)].decode()] = (offset, size)
    return found


def cut_containers(data, offset, size, architecture):
    """Zeros the payloads of other architectures; bytes that stayed."""
    kept, at, end = 0, offset, offset + size
    while at + 16 <= end:
        magic, _, header, body = struct.unpack_from("<IHHQ", data, at)
        if magic != CONTAINER_MAGIC:  # padding between containers
            at += 8
            continue
        entry, last = at + header, at + header + body
        while entry < last:
            kind, _, entry_header, payload = struct.unpack_from("<HHIQ", data, entry)
            (of,) = struct.unpack_from("<I", data, entry + 28)
            if kind == CODE and of == architecture:
                kept += payload
            else:
                first = entry + entry_header
                data[first:first + payload] = bytes(payload)
            entry += entry_header + payload
        at = last
    return kept


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    source, architecture, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(source, "rb") as file:
        data = bytearray(file.read())
    found = sections(source)
    if ".nv_fatbin" not in found:
        sys.exit("%s has no device code" % source)
    kept = cut_containers(data, *found[".nv_fatbin"], architecture)
    if kept == 0:
        sys.exit("%s has no code for architecture %d" % (source, architecture))
    for name, (offset, size) in found.items():
        if name == "__nv_relfatbin" or name.startswith(".debug_"):
            data[offset:offset + size] = bytes(size)
    with open(out, "wb") as file:
        file.write(data)
    # The proof that it is still a library: another process loads it and asks for its version.
    asked = subprocess.run([sys.executable, "-c", "import ctypes, sys\nversion = ctypes.c_int()\n"
                            "assert ctypes.CDLL(sys.argv[1]).ncclGetVersion(ctypes.byref(version)) == 0\n"
                            "print(version.value)", out], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        sys.exit("what was made of %s does not load: %s" % (source, asked.stderr))
    print("%s: NCCL %s, %d MB of code for sm_%d" % (out, asked.stdout.strip(), kept >> 20, architecture))


if __name__ == "__main__":
    main()
