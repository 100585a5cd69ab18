# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The part of the C API that a transfer of a model between threads needs, through ctypes."""
import ctypes as c
import json
import threading

TIMEOUT_US = 60_000_000
MAX_DIMS = 8


class ModelOptions(c.Structure):
    """Of version 1, as a program has it that was compiled with an older header."""
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("config_json", c.c_char_p),
                ("layout", c.c_char_p), ("num_layers", c.c_int64), ("first_rank", c.c_int32), ("num_ranks", c.c_int32)]


class BufferInfo(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("id", c.c_int64), ("name", c.c_char_p),
                ("size_bytes", c.c_int64)]


class Buffer(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("memory", c.c_int32), ("id", c.c_int64),
                ("ptr", c.c_void_p), ("size_bytes", c.c_size_t), ("device", c.c_int32)]


class BindingDesc(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("plan", c.c_void_p), ("comm", c.c_void_p),
                ("num_src_buffers", c.c_int64), ("src_buffers", c.POINTER(Buffer)), ("num_dst_buffers", c.c_int64),
                ("dst_buffers", c.POINTER(Buffer)), ("timeout_us", c.c_int64), ("driver", c.c_int32),
                ("nccl_comm", c.c_void_p), ("may_revoke_nccl_comm", c.c_int32), ("capturable", c.c_int32),
                ("max_ctas", c.c_int32), ("traffic_class", c.c_int32), ("device", c.c_int32)]


class TensorInfo(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("name", c.c_char_p), ("dtype", c.c_int32),
                ("num_dims", c.c_int32), ("shape", c.c_int64 * MAX_DIMS), ("group", c.c_int64)]


class Block(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("version", c.c_uint32), ("kind", c.c_int32), ("rank", c.c_int32),
                ("tensor", c.c_int64), ("buffer", c.c_int64), ("begin", c.c_int64 * MAX_DIMS),
                ("end", c.c_int64 * MAX_DIMS), ("local_begin", c.c_int64 * MAX_DIMS), ("offset_bytes", c.c_int64),
                ("strides_bytes", c.c_int64 * MAX_DIMS)]


class Failure(Exception):
    """A call that did not return RESHARD_OK, with the library's message."""

    def __init__(self, message, status=None):
        super().__init__(message)
        self.is_unsupported = status == -3  # RESHARD_ERR_NOT_SUPPORTED


class Library:
    def __init__(self, path, is_on_device=False, driver="auto"):
        self.dll = c.CDLL(path)
        self.is_on_device = is_on_device
        self.driver = {"auto": 0, "poll": 1, "nccl": 2}[driver]
        self.dll.reshard_last_error.restype = c.c_char_p
        self.dll.reshard_dtype_name.restype = c.c_char_p

    def call(self, name, *arguments):
        status = getattr(self.dll, "reshard_" + name)(*arguments)
        if status != 0:
            raise Failure(f"{name}: {self.dll.reshard_last_error().decode()}", status)

    def made(self, kind, init):
        """A struct as its init function leaves it."""
        value = kind()
        self.init(value, init)
        return value

    def init(self, value, name):
        getattr(self.dll, f"reshard_{name}_init_sized")(c.byref(value), c.c_size_t(c.sizeof(value)))
        assert value.version != 0, f"reshard_{name}_t has other fields than here"

    def num_ranks(self, layout_text):
        count = c.c_int32()
        self.call("layout_text_num_ranks", layout_text.encode(), c.byref(count))
        return count.value

    def layout(self, config, text, first_rank, num_ranks):
        options = self.made(ModelOptions, "model_options")
        options.config_json, options.layout = json.dumps(config).encode(), text.encode()
        options.first_rank, options.num_ranks = first_rank, num_ranks
        handle = c.c_void_p()
        self.call("layout_create_from_model", c.byref(options), c.byref(handle))
        return handle

    def layouts_of_spec(self, spec):
        """(source, destination) of the general JSON form."""
        src, dst = c.c_void_p(), c.c_void_p()
        self.call("layout_create_from_spec", json.dumps(spec).encode(), c.byref(src), c.byref(dst))
        return src, dst

    def plan(self, src, dst):
        plan = c.c_void_p()
        self.call("plan_create", src, dst, None, c.byref(plan))
        return plan

    def report(self, plan):
        text = c.c_char_p()
        self.call("plan_report_json", plan, c.byref(text))
        return json.loads(text.value)

    def buffers(self, layout, rank):
        """(id, name, bytes) of each buffer that the rank brings."""
        count = c.c_int64()
        self.call("layout_num_buffers", layout, c.c_int32(rank), c.byref(count))
        found = []
        for index in range(count.value):
            info = self.made(BufferInfo, "buffer_info")
            self.call("layout_get_buffer", layout, c.c_int32(rank), c.c_int64(index), c.byref(info))
            found.append((info.id, info.name.decode(), info.size_bytes))
        return found

    def tensors(self, layout):
        """(name, dtype's name, shape) of each tensor, by index."""
        count = c.c_int64()
        self.call("layout_num_tensors", layout, c.byref(count))
        found = []
        for index in range(count.value):
            info = self.made(TensorInfo, "tensor_info")
            self.call("layout_get_tensor", layout, c.c_int64(index), c.byref(info))
            dtype = self.dll.reshard_dtype_name(info.dtype).decode()
            found.append((info.name.decode(), dtype, list(info.shape[:info.num_dims])))
        return found

    def blocks(self, layout, rank):
        """All blocks of a rank, padding included."""
        count = c.c_int64()
        self.call("layout_get_blocks", layout, c.c_int32(rank), c.c_int64(0), None, c.byref(count))
        blocks = (Block * max(1, count.value))()
        self.init(blocks[0], "block")
        self.call("layout_get_blocks", layout, c.c_int32(rank), count, blocks, c.byref(count))
        return blocks[:count.value]

    def run(self, src, dst, memories):
        """Moves src to dst between threads. memories[rank] is a pair of dicts, for src and dst, id -> numpy array."""
        plan = self.plan(src, dst)
        try:
            self.run_plan(plan, memories)
        finally:
            self.dll.reshard_plan_destroy(plan)

    def run_plan(self, plan, memories):
        comms = (c.c_void_p * len(memories))()
        self.call("comm_create_local", c.c_int32(len(memories)), None, comms)
        problems = []

        def rank_main(rank):
            try:
                self.run_rank(plan, comms[rank], memories[rank])
            except Failure as failure:
                problems.append(f"rank {rank}: {failure}")

        threads = [threading.Thread(target=rank_main, args=(rank,)) for rank in range(len(memories))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for comm in comms:
            self.dll.reshard_comm_destroy(c.c_void_p(comm))
        if problems:
            raise Failure("; ".join(problems))

    def buffer_array(self, arrays, pointers):
        buffers = (Buffer * max(1, len(arrays)))()
        for buffer, pointer, (number, array) in zip(buffers, pointers, arrays.items()):
            self.init(buffer, "buffer")
            buffer.id, buffer.ptr, buffer.size_bytes = number, pointer, array.nbytes
            buffer.memory, buffer.device = (1, 0) if self.is_on_device else (0, -1)
        return buffers

    def pointers(self, comm, arrays):
        """Where the arrays lie for the binding: themselves, or copies of them on the first device."""
        if not self.is_on_device:
            return [array.ctypes.data for array in arrays.values()]
        found = []
        for array in arrays.values():
            pointer = c.c_void_p()
            self.call("alloc_on", comm, 1, c.c_int32(0), c.c_size_t(array.nbytes), c.byref(pointer))
            self.copy(pointer.value, array.ctypes.data, array)
            found.append(pointer.value)
        return found

    def copy(self, to, origin, array):
        self.call("copy", c.c_void_p(to), c.c_void_p(origin), c.c_size_t(array.nbytes))

    def run_rank(self, plan, comm, memory):
        src, dst = memory
        comm = c.c_void_p(comm)
        src_pointers, dst_pointers = self.pointers(comm, src), self.pointers(comm, dst)
        desc = self.made(BindingDesc, "binding_desc")
        desc.plan, desc.comm, desc.driver = plan, comm, self.driver
        desc.device = 0 if self.is_on_device else -1  # of a rank without buffers, too
        desc.num_src_buffers, desc.num_dst_buffers = len(src), len(dst)
        desc.src_buffers, desc.dst_buffers = self.buffer_array(src, src_pointers), self.buffer_array(dst, dst_pointers)
        binding = c.c_void_p()
        self.call("binding_create", c.byref(desc), c.byref(binding))
        self.call("binding_start", binding, None)
        self.call("binding_finish", binding, c.c_int64(TIMEOUT_US))
        self.dll.reshard_binding_destroy(binding)
        if self.is_on_device:
            for pointer, array in zip(dst_pointers, dst.values()):
                self.copy(array.ctypes.data, pointer, array)
            for pointer in src_pointers + dst_pointers:
                self.call("free", comm, c.c_void_p(pointer))
