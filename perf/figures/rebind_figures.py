# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What a new table of experts costs who is bound: an update of the binding beside binding anew.

DeepSeek-V3 with all its layers, experts and buffers, its widths made small so that 8 ranks fit one machine: a rank has some
thousands of buffers, of which its peers read all. Between threads, and between processes over UCX."""
import ctypes
import json
import multiprocessing
import pathlib
import queue
import statistics
import tempfile
import threading
import time

from reload_figures import HANDLE, I32, I64, TIMEOUT_US, BindingDesc, Buffer, BufferInfo, Library, random_tables
from tools import MODELS

NUM_RANKS = 8
MOST_SECONDS = 300  # for all ranks to start, bind and measure
ROUNDS = 6  # each a change of one table, to and fro
SOURCE = "megatron:tp=2,dp=4,ep=8"
SERVER = "vllm:tp=2,dp=4,ep=8,eplb="
SMALL = {"hidden_size": 64, "vocab_size": 1024, "num_attention_heads": 4, "intermediate_size": 128, "q_lora_rank": 32,
         "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
         "moe_intermediate_size": 32}


def small_config():
    config = json.loads((MODELS / "DeepSeek-V3.json").read_text(encoding="utf-8"))
    return json.dumps(config | SMALL).encode()


def layouts_of(library, folder):
    """The source, and the servers before and after one table of 58 is new: the same on every rank."""
    tables = random_tables(1)
    servers = []
    for number in range(2):
        if number == 1:
            tables[10] = random_tables(2)[10]
        path = pathlib.Path(folder) / f"{number}.json"
        path.write_text(json.dumps({"physical_to_logical": tables}), encoding="utf-8")
        servers.append(library.layout_of(small_config(), SERVER + str(path), NUM_RANKS))
    return library.layout_of(small_config(), SOURCE, NUM_RANKS), servers


def plans_of(library, source, servers):
    """A plan, and the one after the change."""
    first = library.make("plan_create", source, servers[0], None)
    return [first, library.make("plan_update", first, servers[1])]


def description(library, comm, rank, layouts):
    """Of all the rank's buffers, in memory that peers can map."""
    sides, memory = [], []
    for layout in layouts:
        count = I64()
        library.call("layout_num_buffers", layout, I32(rank), ctypes.byref(count))
        buffers = (Buffer * max(1, count.value))()
        total = 0
        for i in range(count.value):
            info = library.new(BufferInfo)
            library.call("layout_get_buffer", layout, I32(rank), I64(i), ctypes.byref(info))
            buffers[i] = library.new(Buffer)
            buffers[i].id, buffers[i].size_bytes, buffers[i].ptr = info.id, info.size_bytes, total
            total += (info.size_bytes + 63) // 64 * 64
        arena = HANDLE()
        library.call("alloc", comm, ctypes.c_size_t(total), ctypes.byref(arena))
        for i in range(count.value):
            buffers[i].ptr = (buffers[i].ptr or 0) + arena.value
        memory.append(arena)
        sides.append((count.value, buffers))
    desc = library.new(BindingDesc)
    desc.comm = comm
    desc.num_src, desc.src = sides[0][0], ctypes.cast(sides[0][1], HANDLE).value
    desc.num_dst, desc.dst = sides[1][0], ctypes.cast(sides[1][1], HANDLE).value
    return desc, (sides, memory)


def run_once(library, binding):
    library.call("binding_start", binding, None)
    library.call("binding_finish", binding, TIMEOUT_US)
    library.call("binding_verify", binding, TIMEOUT_US)


def measure_rank(library, comm, rank, layouts, plans):
    """Seconds of updates and of binding anew, as (wall, own processor) each, from the moment at which all ranks are there;
    with runs between that are verified."""
    desc, keep = description(library, comm, rank, layouts)
    desc.plan = plans[0]
    binding = library.make("binding_create", ctypes.byref(desc))
    run_once(library, binding)
    change = library.new(BindingDesc)
    everybody = (ctypes.c_char * NUM_RANKS)()
    seconds = ([], [])
    for round_number in range(ROUNDS):
        plan = plans[(round_number + 1) % 2]
        change.plan = desc.plan = plan
        for anew in (False, True):
            library.call("comm_allgather", comm, b"x", everybody, ctypes.c_size_t(1), TIMEOUT_US)
            begin, own_begin = time.perf_counter(), time.thread_time()
            if anew:
                library.destroy(binding=binding)
                binding = library.make("binding_create", ctypes.byref(desc))
            else:
                library.call("binding_update", binding, ctypes.byref(change))
            seconds[anew].append((time.perf_counter() - begin, time.thread_time() - own_begin))
        run_once(library, binding)
    library.destroy(binding=binding)
    del keep
    return seconds


def between_threads(library, _bin_dir):
    with tempfile.TemporaryDirectory() as folder:
        source, servers = layouts_of(library, folder)
        plans = plans_of(library, source, servers)
        comms = (HANDLE * NUM_RANKS)()
        library.call("comm_create_local", I32(NUM_RANKS), None, comms)
        results = [None] * NUM_RANKS

        def rank_thread(rank):
            try:
                results[rank] = measure_rank(library, HANDLE(comms[rank]), rank, (source, servers[0]), plans)
            except RuntimeError as error:
                results[rank] = error
        threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(NUM_RANKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results


def saved_plans(library, folder):
    """Paths of the plans, made once: each rank for itself would take as long as all of them on one core."""
    paths = []
    for number, plan in enumerate(plans_of(library, *layouts_of(library, folder))):
        paths.append(str(pathlib.Path(folder) / f"{number}.plan"))
        library.call("plan_save", plan, paths[-1].encode())
    return paths


def rank_process(bin_dir, rank, paths, ids, results):
    try:
        library = Library(bin_dir)
        with tempfile.TemporaryDirectory() as folder:
            source, servers = layouts_of(library, folder)
        plans = [library.make("plan_load", path.encode(), source, server, None)
                 for path, server in zip(paths, servers)]
        unique_id = ctypes.create_string_buffer(128)
        if rank == 0:
            library.call("unique_id_create", None, unique_id)
            for _ in range(NUM_RANKS - 1):
                ids.put(unique_id.raw)
        else:
            unique_id.raw = ids.get()
        comm = HANDLE()
        library.call("comm_create_from_id", unique_id, I32(rank), I32(NUM_RANKS), None, ctypes.byref(comm))
        results.put((rank, measure_rank(library, comm, rank, (source, servers[0]), plans)))
        library.destroy(comm=comm)
    except Exception as error:  # whatever it is, the others wait for this rank: the parent must hear of it and end them
        results.put((rank, RuntimeError(f"rank {rank}: {type(error).__name__}: {error}")))


def gather(processes, results):
    """What each rank has put; the first error, or the end of a rank that has put nothing, ends the wait."""
    found = {}
    until = time.monotonic() + MOST_SECONDS
    while len(found) < len(processes):
        ended = [rank for rank, process in enumerate(processes) if process.exitcode is not None]
        try:  # after the look at who has ended: what a rank put before it ended is then in the queue
            rank, result = results.get(timeout=1)
        except queue.Empty:
            silent = [rank for rank in ended if rank not in found]
            if silent:
                codes = ", ".join(f"rank {rank} with exit code {processes[rank].exitcode}" for rank in silent)
                raise RuntimeError(f"ended without a result: {codes}") from None
            if time.monotonic() > until:
                missing = sorted(set(range(len(processes))) - set(found))
                raise RuntimeError(f"no result of ranks {missing} within {MOST_SECONDS} s") from None
            continue
        if isinstance(result, Exception):
            raise result
        found[rank] = result
    return [found[rank] for rank in range(len(processes))]


def end(processes):
    """Also those that wait for a rank that failed."""
    for process in processes:
        process.join(timeout=0 if process.exitcode is not None else 5)
        if process.exitcode is None:
            process.kill()
            process.join()


def between_processes(library, bin_dir):
    context = multiprocessing.get_context("spawn")  # a process that has had comms is not to be forked
    ids, results = context.Queue(), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        paths = saved_plans(library, folder)
        processes = [context.Process(target=rank_process, args=(bin_dir, rank, paths, ids, results))
                     for rank in range(NUM_RANKS)]
        for process in processes:
            process.start()
        try:
            return gather(processes, results)
        finally:
            end(processes)


def measure(library, bin_dir, figures):
    for name, between in (("threads", between_threads), ("processes over UCX", between_processes)):
        results = between(library, bin_dir)
        for result in results:
            if isinstance(result, Exception):
                raise result
        # Both kinds alternate, so that what drifts drifts for both. Of wall time that of the slowest rank counts.
        key = f"reload.rebind.{name.split()[0]}"
        text = f"{NUM_RANKS} {name}, one table of 58 new: update of a binding / anew"
        for clock, merge, suffix, unit in ((0, max, "", "time"), (1, sum, ".work", "work of all ranks")):
            update, anew = ([merge(times[clock] for times in of_round) for of_round in
                             zip(*(result[kind] for result in results))] for kind in (0, 1))
            ratios = [a / b for a, b in zip(update, anew)]
            figures.add(key + suffix, f"{text}, {unit}", statistics.median(ratios), samples=ratios)
            figures.add(f"{key}{suffix}.anew", f"the same, anew, {unit}", statistics.median(anew) * 1e3, " ms")
