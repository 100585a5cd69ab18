#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Whole runs from Python: random blocks between threads, every element against numpy; comms between processes; faults.

usage: test_runs.py [--seed N] [unittest's arguments]
"""
import math
import multiprocessing
import os
import random
import sys
import threading
import unittest

import numpy as np

import reshard

SEED = 1
DTYPES = {"F32": np.float32, "U8": np.uint8, "I64": np.int64, "F16": np.float16}


def on_ranks(num_ranks, function):
    """What function(comm) gives on each rank, a thread each; an exception is its result."""
    comms, results = reshard.Comm.local(num_ranks), [None] * num_ranks

    def call(rank):
        try:
            results[rank] = function(comms[rank])
        except Exception as problem:
            results[rank] = problem

    threads = [threading.Thread(target=call, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def checked(results):
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def numbered(shape, dtype, first):
    return ((np.arange(math.prod(shape)) + first) % 251).reshape(shape).astype(dtype)


class Side:
    """A random layout, and what each rank holds by it, cut out with numpy: boxes of a grid dealt to ranks, each as a
    strided array inside a larger buffer."""

    def __init__(self, rng, num_ranks, tensors, copies):
        self.builder = reshard.LayoutBuilder(num_ranks)
        self.views = []  # (rank, buffer, view's offset and strides, dtype, box of a tensor)
        self.sizes = [{} for _ in range(num_ranks)]
        for name, (shape, dtype, group) in tensors.items():
            self.builder.tensor(name, shape, dtype, group)
            cuts = [sorted({0, extent, *(rng.randrange(extent + 1) for _ in range(2))}) for extent in shape]
            for start, stop in self.boxes(cuts):
                for rank in rng.sample(range(num_ranks), rng.randint(1, copies)):
                    self.add(rng, rank, name, dtype, start, stop)

    @staticmethod
    def boxes(cuts):
        found = [((), ())]
        for places in cuts:
            found = [((*start, low), (*stop, high)) for start, stop in found for low, high in zip(places, places[1:])]
        return found

    def add(self, rng, rank, name, dtype, start, stop):
        buffer, unit = rng.choice(["a", "b", name]), np.dtype(DTYPES[dtype]).itemsize
        shape = [high - low for low, high in zip(start, stop)]
        order, strides, reach = list(range(len(shape))), [0] * len(shape), unit
        rng.shuffle(order)
        for dim in order:
            strides[dim] = reach
            reach *= shape[dim] + rng.randrange(2)
        size = self.sizes[rank].get(buffer, 0)
        offset = size + (-size % unit)
        self.sizes[rank][buffer] = offset + reach
        self.builder.block(name, rank, buffer, start, shape, offset_bytes=offset, strides_bytes=strides)
        self.views.append((rank, buffer, offset, strides, dtype, name, start, stop))

    def memory(self, rank, poison):
        return {name: np.full(size, poison, np.uint8) for name, size in self.sizes[rank].items()}

    def pieces(self, rank, memory):
        """(view of a block's memory, tensor, slices) of a rank."""
        for of_rank, buffer, offset, strides, dtype, name, start, stop in self.views:
            if of_rank == rank:
                shape = [high - low for low, high in zip(start, stop)]
                view = np.ndarray(shape, DTYPES[dtype], memory[buffer], offset, strides)
                yield view, name, tuple(slice(low, high) for low, high in zip(start, stop))


class RunTest(unittest.TestCase):
    def test_random_blocks_arrive_element_by_element(self):
        print(f"seed {SEED}", flush=True)
        for number in range(20):
            rng = random.Random(f"{SEED} {number}")
            num_ranks = rng.choice([1, 2, 3, 5])
            tensors = {f"t{index}": ([rng.choice([1, 2, 5, 8]) for _ in range(rng.randrange(4))],
                                     rng.choice(list(DTYPES)), rng.randrange(3)) for index in range(rng.randint(1, 6))}
            whole = {name: numbered(shape, DTYPES[dtype], 7 * len(name)) for name, (shape, dtype, _) in tensors.items()}
            src, dst = Side(rng, num_ranks, tensors, num_ranks), Side(rng, num_ranks, tensors, num_ranks)
            plan = reshard.plan(src.builder.build(), dst.builder.build())

            def move(comm):
                memory, target = src.memory(comm.rank, 0), dst.memory(comm.rank, 0xAB)
                with reshard.Session(plan, comm, memory, target) as session:
                    for step in range(2):
                        for view, name, box in src.pieces(comm.rank, memory):
                            view[...] = whole[name][box] + step
                        self.assertEqual(list(session.run()), plan.groups)
                        expected = dst.memory(comm.rank, 0xAB)
                        for view, name, box in dst.pieces(comm.rank, expected):
                            view[...] = whole[name][box] + step
                        for name, found in target.items():  # what no block has is as it was
                            np.testing.assert_array_equal(found, expected[name], f"seed {SEED}, case {number}, {name}")
                        session.verify()
                    self.assertEqual(session.stats["num_runs"], 2)

            checked(on_ranks(num_ranks, move))

    def test_groups_are_handed_out_in_the_order_that_the_plan_chose(self):
        def side(ranks, num_groups=6):
            builder = reshard.LayoutBuilder(3)
            for group in range(num_groups):
                builder.tensor(f"t{group}", (300,), "F32", group=10 * group)
                builder.place(f"t{group}", ranks, [reshard.Shard(0)])
            return builder.build()

        machine = reshard.Machine("host:ranks=3", [3])
        for order, open_groups in (("fixed", 0), ("rotated", 1), ("any", 1)):
            plan = reshard.plan(side([0, 1]), side([2]), machine, group_order=order, open_groups=open_groups)

            def move(comm):
                src = {f"t{group}": np.full(150, group, np.float32) for group in range(6)} if comm.rank < 2 else None
                dst = {f"t{group}": np.zeros(300, np.float32) for group in range(6)} if comm.rank == 2 else None
                with reshard.Session(plan, comm, src, dst) as session:
                    orders = []
                    for _ in range(2):
                        orders.append([])
                        for group in session.run():
                            orders[-1].append(group)
                            if dst:
                                self.assertTrue((dst[f"t{group // 10}"] == group // 10).all())
                    return orders

            for first, second in checked(on_ranks(3, move)):
                self.assertEqual((first, sorted(first)), (second, plan.groups))

    def test_conversions_and_mappable_memory(self):
        src, dst = reshard.Layout.from_spec({"version": 1, "ranks": 2, "tensors": [{
            "name": "w", "group": 0, "shape": [4, 6],
            "src": {"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},
            "dst": {"dtype": "F16", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 1}]}}]})
        plan = reshard.plan(src, dst)

        def move(comm):
            rows, columns = comm.empty((2, 6), np.float32), comm.empty((4, 3), np.float16)
            self.assertFalse(columns.any())
            rows[...] = numbered((4, 6), np.float32, 0)[2 * comm.rank:2 * comm.rank + 2] / 3
            with reshard.Session(plan, comm, {"w": rows}, {"w": columns}) as session:
                session.run().finish()
                driver, reason = session.driver
                self.assertEqual((driver, bool(reason)), ("poll", True))
            expected = (numbered((4, 6), np.float32, 0) / 3).astype(np.float16)
            np.testing.assert_array_equal(columns, expected[:, 3 * comm.rank:3 * comm.rank + 3])
            comm.close()
            columns += 1  # memory of a comm outlives it

        checked(on_ranks(2, move))


def simple_plan(num_ranks=2):
    def side(dim):
        builder = reshard.LayoutBuilder(num_ranks)
        for group in range(3):
            builder.tensor(f"w{group}", (num_ranks, 2 * num_ranks), "F32", group=group)
            builder.place(f"w{group}", range(num_ranks), [reshard.Shard(dim)], buffer="all", offset_bytes=8 * num_ranks * group)
        return builder.build()

    return reshard.plan(side(0), side(1))


def simple_memory(rank, num_ranks=2):
    """(source, destination, what the destination must be) of simple_plan."""
    whole = numbered((3, num_ranks, 2 * num_ranks), np.float32, 0)
    expected = whole[:, :, 2 * rank:2 * rank + 2]
    return np.ascontiguousarray(whole[:, rank]), np.zeros_like(expected), expected


class FaultTest(unittest.TestCase):
    def test_a_fault_of_one_rank_is_told_to_all(self):
        plan = simple_plan()
        read_only = np.zeros(12, np.float32)
        read_only.flags.writeable = False
        for fault, kind, word in (
                ({"dst": {"all": np.zeros(3, np.uint8)}}, reshard.BufferTooSmall, "all"),
                ({"dst": None}, reshard.InvalidArgument, "'all'"),
                ({"dst": {"all": read_only}}, reshard.InvalidArgument, "read-only"),
                ({"dst": {"other": np.zeros(3), "all": np.zeros(12)}}, reshard.InvalidArgument, "other"),
                ({"dst": {"all": np.zeros((12, 2))[:, 0]}}, reshard.InvalidArgument, "without gaps"),
                ({"timeout": 0}, reshard.InvalidArgument, "timeout"),
                ({"driver": "fast"}, reshard.InvalidArgument, "fast")):
            def bind(comm):
                src, dst, _ = simple_memory(comm.rank)
                arguments = {"src": {"all": src}, "dst": {"all": dst}, **(fault if comm.rank == 0 else {})}
                reshard.Session(plan, comm, **arguments)

            first, second = on_ranks(2, bind)
            self.assertIsInstance(first, kind, fault)
            self.assertIn(word, str(first))
            self.assertIsInstance(second, reshard.Error, fault)

    def test_a_session_goes_on_to_another_plan_or_stays_as_it_is(self):
        plan = simple_plan()
        swapped = reshard.LayoutBuilder(2)  # the ranks get each other's columns
        for group in range(3):
            swapped.tensor(f"w{group}", (2, 4), "F32", group=group)
            swapped.place(f"w{group}", [1, 0], [reshard.Shard(1)], buffer="all", offset_bytes=16 * group)
        updated = plan.update(swapped.build())

        def move(comm):
            src, dst, expected = simple_memory(comm.rank)
            others = simple_memory(1 - comm.rank)[2]
            session = reshard.Session(plan, comm, {"all": src}, {"all": dst})
            self.assertEqual(list(session.run()), [0, 1, 2])
            for wrong, kind in (({"src": {"other": src}}, reshard.InvalidArgument), ({"timeout": 0}, reshard.InvalidArgument)):
                with self.assertRaises(kind):
                    session.update(updated, **(wrong if comm.rank == 0 else {}))
            with self.assertRaisesRegex(reshard.PlanMismatch, "stale"):
                session.update(plan if comm.rank == 0 else updated)
            dst[...] = 0
            session.run().finish()
            np.testing.assert_array_equal(dst, expected)
            self.assertIs(session.plan, plan)
            session.update(updated)
            self.assertEqual(list(session.run()), [0, 1, 2])
            np.testing.assert_array_equal(dst, others)
            moved = np.zeros_like(dst)
            session.update(updated, dst={"all": moved})
            session.run().finish()
            np.testing.assert_array_equal(moved, others)
            self.assertIs(session.plan, updated)
            comm.barrier()
            # One makes a session, the other goes on with the one that it has: both hear of both.
            with self.assertRaisesRegex(reshard.InvalidArgument, "reshard_binding_(create.*update|update.*create)"):
                if comm.rank == 0:
                    reshard.Session(plan, comm, {"all": src}, {"all": dst})
                else:
                    session.update(plan)

        checked(on_ranks(2, move))

    def test_a_run_that_is_left_is_finished_before_the_next(self):
        plan = simple_plan()

        def move(comm):
            src, dst, expected = simple_memory(comm.rank)
            with reshard.Session(plan, comm, {"all": src}, {"all": dst}) as session:
                for _ in session.run():
                    break
                with self.assertRaises(reshard.InvalidState) as caught:
                    session.run()
                self.assertEqual(caught.exception.status, reshard.Status.INVALID_STATE)
                session.finish()
                np.testing.assert_array_equal(dst, expected)
                run = session.run()
                self.assertEqual([next(run), next(run), next(run)], [0, 1, 2])
                run.finish()
                comm.barrier()
                self.assertEqual(list(run), [])  # once is enough: a second one would wait for a run that is not there
                self.assertEqual(list(session.run()), [0, 1, 2])

        checked(on_ranks(2, move))

    def test_a_deadline_passes_where_a_peer_does_not_run(self):
        plan = simple_plan()

        def move(comm):
            src, dst, _ = simple_memory(comm.rank)
            session = reshard.Session(plan, comm, {"all": src}, {"all": dst})
            if comm.rank == 0:
                with self.assertRaises(TimeoutError) as caught:
                    list(session.run(timeout=0.05))
                self.assertEqual(caught.exception.status, reshard.Status.TIMEOUT)
            comm.barrier()
            session.close()

        checked(on_ranks(2, move))

    def test_descriptions_of_each_rank_are_exchanged(self):
        def move(comm):
            builder = reshard.LayoutBuilder(comm.size)
            builder.tensor("w", (6,), "U8")
            builder.block("w", comm.rank, f"mine{comm.rank}", (2 * comm.rank,), (2,))
            merged = builder.build().exchange(comm)
            return merged.to_bytes()

        results = checked(on_ranks(3, move))
        self.assertEqual(len(set(results)), 1)
        layout = reshard.Layout.from_bytes(results[0])
        self.assertEqual([layout.blocks(rank)[0].start for rank in range(3)], [(0,), (2,), (4,)])


def process_main(way, rank, num_ranks, given, results):
    try:
        if way == "id":
            comm = reshard.Comm.from_unique_id(given, rank, num_ranks, timeout=20)
        elif way == "environment":
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(num_ranks), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                              MASTER_PORT=given, LOCAL_WORLD_SIZE=str(num_ranks), TORCHELASTIC_RUN_ID=f"run{given}")
            comm = reshard.Comm.from_environment(timeout=20)
        else:
            barrier, queues = given

            def allgather(data):
                for queue in queues:
                    queue.put((rank, data))
                gathered = dict(queues[rank].get(timeout=20) for _ in range(num_ranks))
                barrier.wait()
                return [gathered[other] for other in range(num_ranks)]

            comm = reshard.Comm.from_callback(allgather, rank, num_ranks, timeout=20)
        assert (comm.rank, comm.size) == (rank, num_ranks)
        assert comm.allgather(bytes([rank])) == [bytes([other]) for other in range(num_ranks)]
        plan = simple_plan(num_ranks)
        src, dst, expected = simple_memory(rank, num_ranks)
        with reshard.Session(plan, comm, {"all": src}, {"all": dst}) as session:
            assert list(session.run()) == [0, 1, 2]
        np.testing.assert_array_equal(dst, expected)
        results.put("good")
    except BaseException as problem:
        results.put(repr(problem))


class ProcessTest(unittest.TestCase):
    def ranks(self, way, given, num_ranks=3):
        """Forked, since no comm has been made in this process but that of threads. Rank 0 is where the id was made."""
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        if way == "callback":
            given = context.Barrier(num_ranks), [context.Queue() for _ in range(num_ranks)]
        others = [context.Process(target=process_main, args=(way, rank, num_ranks, given, results))
                  for rank in range(1 if way == "id" else 0, num_ranks)]
        for process in others:
            process.start()
        if way == "id":
            process_main(way, 0, num_ranks, given, results)
        found = [results.get(timeout=60) for _ in range(num_ranks)]
        for process in others:
            process.join()
        self.assertEqual(found, ["good"] * num_ranks)

    def test_1_processes_join_by_environment(self):
        import socket
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.ranks("environment", str(port))

    def test_2_processes_join_by_callback(self):
        self.ranks("callback", None)

    def test_3_processes_join_by_id(self):
        self.ranks("id", reshard.unique_id())

    def test_faults_of_a_bootstrap(self):
        with self.assertRaisesRegex(reshard.InvalidArgument, "128"):
            reshard.Comm.from_unique_id(b"short", 0, 1)
        with self.assertRaisesRegex(reshard.TransportError, "no address"):
            reshard.unique_id("no address")

        def fails(_data):
            raise KeyError("mine")

        with self.assertRaisesRegex(KeyError, "mine"):
            reshard.Comm.from_callback(fails, 0, 2, timeout=5)
        with self.assertRaisesRegex(reshard.InvalidArgument, "all-gather returned"):
            reshard.Comm.from_callback(lambda data: [data], 0, 2, timeout=5)


if __name__ == "__main__":
    if "--seed" in sys.argv:
        place = sys.argv.index("--seed")
        SEED = int(sys.argv[place + 1])
        del sys.argv[place:place + 2]
    unittest.main()
