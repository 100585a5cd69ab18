#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Device memory from Python, by CUDA's array interface: on a GPU, or on the double of the CUDA runtime (tests/doubles/cuda)."""
import sys
import threading
import unittest

import numpy as np

import reshard
from reshard import _library
from reshard._library import check, ffi, lib


class DeviceArray:
    """Memory of a device that says where it lies as CuPy's arrays do."""

    def __init__(self, comm, array, device=0):
        out = ffi.new("void**")
        check(lib.reshard_alloc_on(comm.handle, lib.RESHARD_MEMORY_CUDA, device, array.nbytes, out))
        self.ptr, self.like, self.device = int(ffi.cast("uintptr_t", out[0])), array, device
        check(lib.reshard_copy(out[0], ffi.from_buffer(array), array.nbytes))
        self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str, "version": 3, "strides": None,
                                         "data": (self.ptr, False)}

    def __dlpack_device__(self):
        return 2, self.device

    def get(self):
        array = np.empty_like(self.like)
        check(lib.reshard_copy(ffi.from_buffer(array), ffi.cast("void*", self.ptr), array.nbytes))
        return array


def side(dim):
    builder = reshard.LayoutBuilder(2)
    for group in range(3):
        builder.tensor(f"w{group}", (4, 6), "F32", group=group)
        builder.place(f"w{group}", [0, 1], [reshard.Shard(dim)])
    return builder.build()


class DeviceTest(unittest.TestCase):
    def test_device_memory_moves_and_its_groups_have_events(self):
        plan, comms, problems = reshard.plan(side(0), side(1)), reshard.Comm.local(2), []
        whole = np.arange(72, dtype=np.float32).reshape(3, 4, 6)

        def move(comm):
            rows, columns = slice(2 * comm.rank, 2 * comm.rank + 2), slice(3 * comm.rank, 3 * comm.rank + 3)
            src = {f"w{g}": DeviceArray(comm, np.ascontiguousarray(whole[g, rows])) for g in range(3)}
            dst = {f"w{g}": DeviceArray(comm, np.zeros((4, 3), np.float32)) for g in range(3)}
            with reshard.Session(plan, comm, src, dst) as session:
                for stream in (None, 0):
                    for group in session.run(stream=stream):
                        self.assertNotEqual(session.group_event(group), 0)
                        np.testing.assert_array_equal(dst[f"w{group}"].get(), whole[group, :, columns])
                with self.assertRaises(reshard.NotSupported):
                    session.verify()
            host = {f"w{g}": np.zeros((4, 3), np.float32) for g in range(3)}
            with self.assertRaisesRegex(reshard.InvalidArgument, "buffer"):
                reshard.Session(plan, comm, src, host)  # memory of two kinds on one rank

        def call(comm):
            try:
                move(comm)
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=call, args=(comm,)) for comm in comms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]


if __name__ == "__main__":
    try:
        _library.value("int32_t", lib.reshard_device_count)
    except reshard.NotSupported as problem:
        print(f"skipped: {problem}")
        sys.exit(77)
    unittest.main()
