# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What a server that reloads its weights asks for: how much each rank receives and holds beside the weights, new tables of
experts, hashes. Over the library's own C API, which the build's shared library has."""
import ctypes
import json
import pathlib
import random
import statistics
import tempfile
import threading
import time

from tools import MODELS

DEEPSEEK_SOURCE = "megatron:tp=4,pp=8,dp=8,ep=32,layers=7-7-8-8-8-8-8-7"
HANDLE = ctypes.c_void_p
I32, I64, TEXT = ctypes.c_int32, ctypes.c_int64, ctypes.c_char_p
HEADER = [("struct_size", ctypes.c_size_t), ("version", ctypes.c_uint32)]


def struct(name, fields):
    return type(name, (ctypes.Structure,), {"_fields_": HEADER + fields})


ModelOptions = struct("model_options", [("config", TEXT), ("layout", TEXT), ("num_layers", I64), ("first_rank", I32),
                                        ("num_ranks", I32), ("rank_list", HANDLE), ("rank_list_size", I64),
                                        ("dtype", TEXT), ("include", TEXT), ("exclude", TEXT)])
ManifestTensor = struct("manifest_tensor", [("name", TEXT), ("tensor", I64), ("group", I64), ("num_pieces", I64),
                                            ("num_elements", I64), ("written_bytes", I64), ("zero_bytes", I64),
                                            ("untouched_bytes", I64), ("is_converted", I32)])
ManifestPiece = struct("manifest_piece", [("source", TEXT), ("source_rank", I32), ("from_rank", I32),
                                          ("num_elements", I64), ("begin", I64 * 8), ("end", I64 * 8)])
Buffer = struct("buffer", [("memory", I32), ("id", I64), ("ptr", HANDLE), ("size_bytes", ctypes.c_size_t),
                           ("device", I32)])
BufferInfo = struct("buffer_info", [("id", I64), ("name", TEXT), ("size_bytes", I64)])
BindingDesc = struct("binding_desc", [("plan", HANDLE), ("comm", HANDLE), ("num_src", I64), ("src", HANDLE),
                                      ("num_dst", I64), ("dst", HANDLE), ("timeout_us", I64), ("driver", I32),
                                      ("nccl_comm", HANDLE), ("may_revoke", I32), ("capturable", I32),
                                      ("max_ctas", I32), ("traffic_class", I32), ("device", I32)])
TIMEOUT_US = I64(60_000_000)


class Library:
    def __init__(self, bin_dir):
        self.lib = ctypes.CDLL(str(pathlib.Path(bin_dir).resolve().parent / "lib" / "libreshard.so"))
        self.lib.reshard_last_error.restype = TEXT

    def call(self, name, *arguments):
        if getattr(self.lib, f"reshard_{name}")(*arguments) != 0:
            raise RuntimeError(f"reshard_{name}: {self.lib.reshard_last_error().decode()}")

    def make(self, name, *arguments):
        handle = HANDLE()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def new(self, kind):
        value = kind()
        getattr(self.lib, f"reshard_{kind.__name__}_init_sized")(ctypes.byref(value), ctypes.sizeof(kind))
        return value

    def layout(self, model, text, num_ranks, num_layers=0):
        return self.layout_of((MODELS / f"{model}.json").read_bytes(), text, num_ranks, num_layers)

    def layout_of(self, config, text, num_ranks, num_layers=0):
        options = self.new(ModelOptions)
        options.config = config
        options.layout, options.num_ranks, options.num_layers = text.encode(), num_ranks, num_layers
        return self.make("layout_create_from_model", ctypes.byref(options))

    def report(self, plan):
        text = TEXT()
        self.call("plan_report_json", plan, ctypes.byref(text))
        return json.loads(text.value)

    def must_receive(self, plan, rank):
        """Bytes of the rank's tensors that it does not hold at the source, from the manifest."""
        manifest = self.make("manifest_create", plan, I32(rank))
        count, total = I64(), 0
        self.call("manifest_num_tensors", manifest, ctypes.byref(count))
        tensor, piece = self.new(ManifestTensor), self.new(ManifestPiece)
        for t in range(count.value):
            self.call("manifest_get_tensor", manifest, I64(t), ctypes.byref(tensor))
            for p in range(tensor.num_pieces):
                self.call("manifest_get_piece", manifest, I64(t), I64(p), ctypes.byref(piece))
                if piece.source_rank != rank:
                    total += piece.num_elements * (tensor.written_bytes // tensor.num_elements)
        self.lib.reshard_manifest_destroy(manifest)
        return total

    def destroy(self, **handles):
        for kind, handle in handles.items():
            getattr(self.lib, f"reshard_{kind.rstrip('0123456789')}_destroy")(handle)


def seconds_of(action, rounds):
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def volumes(library, figures):
    """R1-671B as trained with T4 P8 EP8 and served with t4 EP64, 256 ranks that are both; 8-bit or not, bytes are BF16's."""
    src = library.layout("DeepSeek-V3", DEEPSEEK_SOURCE, 256)
    dst = library.layout("DeepSeek-V3", "vllm:tp=4,dp=64,ep=256", 256)
    plan = library.make("plan_create", src, dst, None)
    report = library.report(plan)
    ranks = range(0, 256, 5)  # every fifth: of all stages and all places in a stage
    most = max(library.must_receive(plan, rank) for rank in ranks)
    figures.add("reload.r1.received", "R1-671B to t4 EP64, 256 ranks: most that a rank receives / must",
                report["receivers"]["max_bytes"] / most, "", "<=", 1.02)
    figures.add("reload.r1.gigabytes", "the same, received by that rank", report["receivers"]["max_bytes"] / 1e9, " GB")
    figures.add("reload.r1.staging", "the same, memory beside the weights", report["staging_bytes"] / 2**20, " MiB",
                "<=", 64)
    library.destroy(plan=plan, layout0=src, layout1=dst)


def fsdp(library, figures):
    src = library.layout("Meta-Llama-3.1-70B", "fsdp:shard=8", 8)
    dst = library.layout("Meta-Llama-3.1-70B", "vllm:tp=8", 8)
    plan = library.make("plan_create", src, dst, None)
    report = library.report(plan)
    model_bytes = report["bytes_crossed"] + report["bytes_local"]  # each element at one rank, norms at eight
    figures.add("reload.fsdp.received", "Llama 70B, FSDP 8 to TP 8: most that a rank receives / model",
                report["receivers"]["max_bytes"] / model_bytes, "", "<=", 1 / 8)
    figures.add("reload.fsdp.staging", "the same, memory beside the weights", report["staging_bytes"] / 2**20, " MiB",
                "<=", 64)
    library.destroy(plan=plan, layout0=src, layout1=dst)


def random_tables(seed):
    """58 layers of 512 slots for 256 experts."""
    chance = random.Random(seed)
    tables = []
    for _ in range(58):
        table = list(range(256)) + [chance.randrange(256) for _ in range(256)]
        chance.shuffle(table)
        tables.append(table)
    return tables


def updates(library, figures):
    """Tables of which one layer is new, and all."""
    old = random_tables(1)
    one = [list(table) for table in old]
    one[10] = random_tables(2)[10]
    src = library.layout("DeepSeek-V3", DEEPSEEK_SOURCE, 256)
    with tempfile.TemporaryDirectory() as folder:
        layouts = []
        for i, tables in enumerate((old, one, random_tables(2))):
            path = pathlib.Path(folder) / f"{i}.json"
            path.write_text(json.dumps({"physical_to_logical": tables}), encoding="utf-8")
            layouts.append(library.layout("DeepSeek-V3", f"vllm:tp=4,dp=64,ep=256,eplb={path}", 256))
    before = library.make("plan_create", src, layouts[0], None)
    for layout, text in ((layouts[1], "one table of 58"), (layouts[2], "all tables")):
        def update(layout=layout):
            library.destroy(plan=library.make("plan_update", before, layout))

        def create(layout=layout):
            library.destroy(plan=library.make("plan_create", src, layout, None))
        ratios = [seconds_of(update, 1) / seconds_of(create, 1) for _ in range(7)]
        plan = library.make("plan_update", before, layout)
        changed = library.report(plan)["replanned"]
        figures.add(f"reload.update.{text.split()[0]}",
                    f"R1-671B, {text} new: plan update / plan ({changed['bytes_changed'] / 1e9:.1f} GB move)",
                    statistics.median(ratios), samples=ratios)
        library.destroy(plan=plan)
    library.destroy(plan=before, layout0=src, layout1=layouts[0], layout2=layouts[1], layout3=layouts[2])


def bind(library, layouts, plan, comm, rank):
    sides, memory = [], []
    for layout in layouts:
        count = I64()
        library.call("layout_num_buffers", layout, I32(rank), ctypes.byref(count))
        buffers = (Buffer * max(1, count.value))()
        for i in range(count.value):
            info = library.new(BufferInfo)
            library.call("layout_get_buffer", layout, I32(rank), I64(i), ctypes.byref(info))
            buffers[i] = library.new(Buffer)
            memory.append(ctypes.create_string_buffer(max(1, info.size_bytes)))
            buffers[i].id, buffers[i].size_bytes = info.id, info.size_bytes
            buffers[i].ptr = ctypes.cast(memory[-1], HANDLE).value
        sides.append((count.value, buffers))
    desc = library.new(BindingDesc)
    desc.plan, desc.comm = plan, comm
    desc.num_src, desc.src = sides[0][0], ctypes.cast(sides[0][1], HANDLE).value
    desc.num_dst, desc.dst = sides[1][0], ctypes.cast(sides[1][1], HANDLE).value
    return library.make("binding_create", ctypes.byref(desc)), (memory, sides)


def hashes(library, figures):
    """Qwen3-0.6B, two layers, FSDP 4 to TP 2, threads: a run, and the hashes of what it brought."""
    layouts = (library.layout("Qwen3-0.6B", "fsdp:shard=4", 4, 2), library.layout("Qwen3-0.6B", "vllm:tp=2", 4, 2))
    plan = library.make("plan_create", *layouts, None)
    comms = (HANDLE * 4)()
    library.call("comm_create_local", I32(4), None, comms)
    run_seconds, verify_seconds, failures = [], [], []

    def rank_thread(rank):
        try:
            binding, keep = bind(library, layouts, plan, HANDLE(comms[rank]), rank)
            for _ in range(7):
                begin = time.perf_counter()
                library.call("binding_start", binding, None)
                library.call("binding_finish", binding, TIMEOUT_US)
                middle = time.perf_counter()
                library.call("binding_verify", binding, TIMEOUT_US)
                if rank == 0:
                    run_seconds.append(middle - begin)
                    verify_seconds.append(time.perf_counter() - middle)
            library.destroy(binding=binding)
            del keep
        except RuntimeError as error:
            failures.append(str(error))
    threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for comm in comms:
        library.destroy(comm=HANDLE(comm))
    library.destroy(plan=plan, layout0=layouts[0], layout1=layouts[1])
    if failures:
        raise RuntimeError(failures[0])
    ratios = [verify / run for run, verify in zip(run_seconds, verify_seconds)]
    figures.add("reload.hashes", "Qwen3-0.6B, 2 layers, FSDP 4 to TP 2, 4 threads: hashes of both sides / run",
                statistics.median(ratios), samples=ratios)


def layout_times(tools, figures):
    for key, src, goal in (("megatron", "megatron:pp=16,dp=128,ep=16", 0.05), ("fsdp", "fsdp:shard=2048", None)):
        reports = [tools.paper("--model", "DeepSeek-V3", "--from", src, "--to", "vllm:tp=32,replicas=64")
                   for _ in range(5)]
        figures.add(f"reload.layouts.{key}", f"DeepSeek-V3 {src} to 2048 servers: both layouts",
                    statistics.median(report["layout_seconds"] for report in reports), " s", "<" if goal else None, goal)


def measure(tools, figures):
    library = Library(tools.bin_dir)
    print("\nReload: what ranks receive and hold, new tables of experts, hashes, layouts")
    volumes(library, figures)
    fsdp(library, figures)
    updates(library, figures)
    hashes(library, figures)
    layout_times(tools, figures)
