#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Where arrays lie: every protocol gives address, bytes and device; what cannot be bound is refused."""
import array
import ctypes
import unittest

import numpy as np

import reshard
from reshard import _library, _memory, _session

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class DlTensor(ctypes.Structure):
    """As the protocol's own header has it."""
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class Fake:
    """An array on a device that this machine has not got: it only says where it lies."""

    def __init__(self, device, shape, strides=None, bits=16, byte_offset=0, lanes=1):
        self.device, self.streams = device, []
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        self.strides = (ctypes.c_int64 * len(shape))(*strides) if strides else None
        self.tensor = DlTensor(0x1000, *device, len(shape), 4, bits, lanes, self.shape, self.strides, byte_offset)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **stream):
        self.streams.append(stream)
        return new_capsule(ctypes.addressof(self.tensor), b"dltensor", None)


class CudaArray:
    def __init__(self, **changes):
        self.__cuda_array_interface__ = {"shape": (4, 2), "typestr": "<f4", "data": (0x2000, False), "version": 3,
                                         "strides": None, **changes}

    def __dlpack_device__(self):
        return (2, 1)


def where(memory):
    return memory.ptr, memory.size_bytes, memory.device


class MemoryTest(unittest.TestCase):
    def test_memory_of_the_host(self):
        numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
        for given in (numbers, numbers[1:], numbers[:, :][2], np.float16(numbers)[:0], np.zeros((5, 1))[:, ::-1]):
            self.assertEqual(where(_memory.memory_of(given))[1:], (given.nbytes, None))
            if given.nbytes:
                self.assertEqual(_memory.memory_of(given).ptr, given.ctypes.data)
        for given, size_bytes in ((bytearray(10), 10), (array.array("d", [1, 2]), 16), (memoryview(bytearray(6))[2:], 4)):
            memory = _memory.memory_of(given)
            self.assertEqual((memory.size_bytes, memory.is_writable), (size_bytes, True))
            ctypes.memset(memory.ptr, 1, size_bytes)
            self.assertEqual(bytes(given), b"\1" * size_bytes)
        numbers.flags.writeable = False
        for given in (numbers, b"123", memoryview(b"123")):
            self.assertFalse(_memory.memory_of(given).is_writable)

    def test_memory_is_kept_alive_and_given_back(self):
        data = bytearray(3)
        memory = _memory.memory_of(data)
        with self.assertRaises(BufferError):
            data.extend(b"moves it")
        del memory
        data.extend(b"may move")

    def test_dlpack_of_devices(self):
        cuda = Fake((2, 3), (4, 5), byte_offset=64)
        self.assertEqual(where(_memory.memory_of(cuda)), (0x1040, 40, 3))
        self.assertEqual(cuda.streams, [{"stream": -1}])  # no stream is made to wait for a binding
        self.assertEqual(where(_memory.memory_of(Fake((13, 0), (7,), bits=8))), (0x1000, 7, 0))
        pinned = Fake((3, 0), (2, 1, 3), strides=(3, 99, 1), bits=32)
        self.assertEqual(where(_memory.memory_of(pinned)), (0x1000, 24, None))
        self.assertEqual(pinned.streams, [{}])
        self.assertEqual(where(_memory.memory_of(Fake((2, 0), (6,), bits=4))), (0x1000, 3, 0))
        self.assertEqual(where(_memory.memory_of(Fake((2, 2), (3, 0)))), (0, 0, 2))
        with self.assertRaisesRegex(reshard.NotSupported, "type 10"):
            _memory.memory_of(Fake((10, 0), (1,)))

    def test_numpy_by_dlpack(self):
        class OnlyDlpack:
            def __init__(self, numbers):
                self.__dlpack__, self.__dlpack_device__ = numbers.__dlpack__, numbers.__dlpack_device__

        numbers = np.arange(6.0)
        self.assertEqual(where(_memory.memory_of(OnlyDlpack(numbers))), (numbers.ctypes.data, 48, None))

    def test_cuda_array_interface(self):
        self.assertEqual(where(_memory.memory_of(CudaArray())), (0x2000, 32, 1))
        self.assertFalse(_memory.memory_of(CudaArray(data=(0x2000, True))).is_writable)
        with self.assertRaises(reshard.InvalidArgument):
            _memory.memory_of(CudaArray(strides=(4, 16)))

    def test_arrays_with_gaps_are_refused(self):
        numbers = np.zeros((4, 6))
        for given in (numbers[:, :3], numbers.T, numbers[::2], memoryview(numbers)[::2], Fake((2, 0), (4, 2), (3, 1))):
            with self.assertRaisesRegex(reshard.InvalidArgument, "without gaps"):
                _memory.memory_of(given)
        with self.assertRaisesRegex(reshard.InvalidArgument, "no array"):
            _memory.memory_of([1, 2])

    def test_streams_of_many_kinds_are_addresses(self):
        class Pointer:
            value = 0x30

        class Stream:
            def __init__(self, **attributes):
                self.__dict__.update(attributes)

        for given, address in ((None, 0), (0x10, 0x10), (Stream(cuda_stream=0x20), 0x20), (Stream(ptr=0x21), 0x21),
                               (Stream(handle=Pointer()), 0x30), (Stream(cuda_stream=0), 0)):
            self.assertEqual(int(_library.ffi.cast("uintptr_t", _session.stream_pointer(given))), address)

    def test_a_buffer_of_the_library_is_filled(self):
        for given, expected in ((reshard.Memory(0x10, 7, 5), (1, 5)), (np.zeros(3), (0, -1))):
            buffer = _library.struct("buffer")
            memory = _memory.memory_of(given)
            _memory.fill_buffer(buffer, 42, memory)
            self.assertEqual((buffer.memory, buffer.device, buffer.id, buffer.size_bytes),
                             (*expected, 42, memory.size_bytes))
            self.assertEqual(int(_library.ffi.cast("uintptr_t", buffer.ptr)), memory.ptr)


if __name__ == "__main__":
    unittest.main()
