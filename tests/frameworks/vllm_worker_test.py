#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The engines of workers and of a trainer without a model of vLLM's: where weights land, and servers that come and go.

The servers are processes with the worker's real engine and a small module of three weights: one without a step after
loading, one whose step transposes, and one of which a step makes something packed that is used in its place.
"""
import multiprocessing
import os
import sys
import types
import unittest
from unittest import mock

import torch
import vllm_models
from torch import nn

FORK = multiprocessing.get_context("fork")  # before the first comm
NUM_EXPERTS, EXPERT = 4, (2, 3)
FIRST_TABLE = (0, 1, 2, 3, 0, 1)  # the expert in each slot
SHAPES = {"layers.0.plain": (6, 4), "layers.1.turned": (6, 4), "layers.2.packed": (3, 5)}


def methods():
    from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase

    class Method(QuantizeMethodBase):
        def create_weights(self, layer, *_, **__):
            pass

        def apply(self, layer, *_, **__):
            pass

    class Transposing(Method):
        def process_weights_after_loading(self, layer):
            layer.weight = nn.Parameter(layer.weight.t().contiguous(), requires_grad=False)

    class Packing(Method):
        def process_weights_after_loading(self, layer):
            packed = layer.weight.clone() * 2
            layer.kernel = lambda: packed

    class Reversing(Method):  # in place, and of the same shape
        def process_weights_after_loading(self, layer):
            layer.weight.data.copy_(layer.weight.flip(0))

    class Choosing(Method):  # a kernel that holds nothing of the weights
        def process_weights_after_loading(self, layer):
            layer.kernel = lambda x, weight: nn.functional.linear(x, weight)

    return {"plain": Method, "turned": Transposing, "packed": Packing, "reversed": Reversing, "chosen": Choosing}


class Layer(nn.Module):
    def __init__(self, shape, method):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.quant_method = method


class Experts(nn.Module):
    """What vLLM has of a layer of experts: slots, and a table that says which expert lies in each; some lie in two."""

    def __init__(self):
        super().__init__()
        self.routed_experts, self.router = nn.Module(), nn.Module()
        self.routed_experts.w2_weight = nn.Parameter(torch.zeros(len(FIRST_TABLE), *EXPERT), requires_grad=False)
        self.router.eplb_state = types.SimpleNamespace()
        self.use(FIRST_TABLE)

    def use(self, table):
        rows = [[slot for slot, expert in enumerate(table) if expert == index] for index in range(NUM_EXPERTS)]
        width = max(map(len, rows))
        self.router.eplb_state.logical_to_physical_map = torch.tensor([row + [-1] * (width - len(row)) for row in rows])

    def load(self, expert, tensor):
        for slot in (slot for slot, one in enumerate(FIRST_TABLE) if one == expert):
            self.routed_experts.w2_weight.data[slot].copy_(tensor)


class Model(nn.Module):
    """What a worker holds, loaded and processed once as vLLM does it."""

    def __init__(self, is_computing=False):
        from vllm.model_executor.model_loader.reload import record_metadata_for_reloading
        super().__init__()
        self.is_computing, found = is_computing, methods()
        self.layers = nn.ModuleList(Layer(shape, found[name.rpartition(".")[2]]()) for name, shape in SHAPES.items())
        self.moe = Experts()
        record_metadata_for_reloading(self)
        for layer in self.layers:
            layer.quant_method.process_weights_after_loading(layer)

    def load_weights(self, weights):
        for name, tensor in weights:
            if name.startswith("moe."):
                self.moe.load(int(name.split(".")[2]), tensor)
                continue
            into = self.layers[int(name.split(".")[1])].weight
            into.data.copy_(tensor.exp() if self.is_computing else tensor)

    def in_use(self):
        """The weights as a kernel sees them, and where the parameters lie."""
        plain, turned, packed = self.layers
        slots = self.moe.routed_experts.w2_weight
        return ([plain.weight.tolist(), turned.weight.t().tolist(), (packed.kernel() / 2).tolist(), slots.tolist()],
                [*(layer.weight.data_ptr() for layer in self.layers), slots.data_ptr()])


def server(connection, is_computing):
    """A server's process: does what vLLM's worker does with calls of the control plane."""
    from vllm.config import VllmConfig
    from reshard.vllm.engine import Engine
    model, is_active, dies = Model(is_computing), False, False
    engine = Engine(None, VllmConfig(), torch.device("cpu"), model)
    engine.model_config = type("ModelConfig", (), {"dtype": torch.float32})
    while True:
        name, arguments = connection.recv()
        try:
            result = None
            if name == "init_weight_transfer_engine":
                engine.init_transfer_engine(engine.parse_init_info(*arguments))
            elif name == "start_weight_update":
                assert not is_active, "an update is under way"
                is_active = True
            elif name == "update_weights":
                if dies:
                    os._exit(1)
                is_active = False  # as vLLM's worker does when it fails
                engine.receive_weights(engine.parse_update_info(*arguments))
                is_active = True
            elif name == "finish_weight_update":
                assert is_active, "no update is under way"
                engine.finish_weight_update()
                is_active = False
            elif name == "die":
                dies = True
            elif name == "use_table":
                model.moe.use(*arguments)
            elif name == "in_use":
                result = model.in_use()
            connection.send((True, result))
        except Exception as error:
            connection.send((False, f"{type(error).__name__}: {error}"))


class Client:
    """The control plane of one server, which is gone when the pipe is."""

    def __init__(self, is_computing=False):
        self.connection, theirs = FORK.Pipe()
        self.process = FORK.Process(target=server, args=(theirs, is_computing), daemon=True)
        self.process.start()
        theirs.close()

    def __getattr__(self, name):
        def call(*arguments):
            self.connection.send((name, arguments))
            is_well, result = self.connection.recv()
            if not is_well:
                raise RuntimeError(result)
            return result
        return call

    def kill(self):
        self.process.kill()
        self.process.join()


class Trainer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Module() for _ in SHAPES)
        for name, shape in SHAPES.items():
            self.layers[int(name.split(".")[1])].register_parameter(name.split(".")[2],
                                                                    nn.Parameter(torch.zeros(shape), requires_grad=False))
        self.moe = nn.ModuleDict({"experts": nn.ModuleDict({"down": nn.Module()})})
        self.moe.experts.down.weight = nn.Parameter(torch.zeros(NUM_EXPERTS, *EXPERT), requires_grad=False)

    def step(self, seed, table=FIRST_TABLE):
        """New weights. Returns what a server with this table of experts is to hold then."""
        torch.manual_seed(seed)
        for parameter in self.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        *layers, experts = [parameter.tolist() for parameter in self.parameters()]
        return [*layers, [experts[index] for index in table]]


class ServersTest(unittest.TestCase):
    """In this order: all processes are forked before the first comm."""

    @classmethod
    def setUpClass(cls):
        # Once for all processes; reshard is loaded in each, for UCX does not like to be forked.
        import vllm.config  # noqa: F401
        import vllm.distributed.weight_transfer.base  # noqa: F401
        import vllm.model_executor.layers.attention  # noqa: F401
        import vllm.model_executor.model_loader.reload  # noqa: F401
        cls.first, cls.second, cls.third, cls.computing = Client(), Client(), Client(), Client(is_computing=True)
        cls.balancing = Client()

    @classmethod
    def tearDownClass(cls):
        for client in (cls.first, cls.second, cls.third, cls.computing, cls.balancing):
            client.kill()

    def make(self, client, module):
        from reshard.vllm.source import ShardSource
        from reshard.vllm.trainer import ReshardTrainerInitInfo, TrainerEngine
        return TrainerEngine.trainer_init(ReshardTrainerInitInfo(rank=0, timeout=60), client=client,
                                          source=ShardSource.of_module(module))

    def test_servers_come_and_go(self):
        from reshard.vllm.replicas import Replicas
        module, replicas = Trainer(), Replicas([self.first, self.second])
        engine = self.make(replicas, module)
        wanted = module.step(1)
        engine.send_weights()
        self.assertEqual([client.in_use()[0] for client in replicas.clients], [wanted, wanted])
        where = self.first.in_use()[1]

        self.second.kill()
        wanted = module.step(2)
        engine.send_weights()
        self.assertEqual((engine.members, self.first.in_use()), ([0], (wanted, where)))

        replicas.clients[1] = engine.control.clients[1] = self.third  # it is back
        wanted = module.step(3)
        engine.send_weights()
        self.assertEqual((engine.members, self.third.in_use()[0], self.first.in_use()), ([0, 1], wanted, (wanted, where)))

        self.third.die()  # in the middle of an update
        wanted = module.step(4)
        engine.send_weights()
        self.assertEqual((engine.members, self.first.in_use()), ([0], (wanted, where)))

        module.layers[0].plain = nn.Parameter(torch.ones(6, 4), requires_grad=False)  # other memory of the trainer's
        engine.send_weights()
        self.assertEqual(self.first.in_use()[0], [[[1.0] * 4] * 6, *wanted[1:]])

        self.first.kill()
        with self.assertRaisesRegex(RuntimeError, "no server takes weights: replica 0: .*; replica 1: "):
            engine.send_weights()
        engine.shutdown()

    def test_a_table_of_experts_that_changes(self):
        """The plan is updated, not made anew, and only when a table has changed; nothing moves to another address."""
        import reshard
        module = Trainer()
        engine = self.make(self.balancing, module)
        where = self.balancing.in_use()[1]
        tables = [FIRST_TABLE, (3, 2, 1, 0, 3, 2), (3, 2, 1, 0, 3, 2), (3, 3, 2, 1, 0, 3)]
        for step, table in enumerate(tables):
            self.balancing.use_table(table)
            wanted = module.step(step, table)
            with (mock.patch.object(reshard.Plan, "update", autospec=True, side_effect=reshard.Plan.update) as update,
                  mock.patch.object(reshard, "plan") as plan):
                engine.send_weights()
            self.assertEqual((update.call_count, plan.call_count), (int(table != tables[max(0, step - 1)]), 0))
            self.assertEqual(self.balancing.in_use(), (wanted, where))
        engine.shutdown()

    def test_what_cannot_be_recorded_is_an_error_for_the_trainer(self):
        with self.assertRaisesRegex(RuntimeError, "rank 1 gave up: .*layers.0.weight cannot be recorded: its loader puts "
                                    "aten.exp.default of layers.0.plain there"):
            self.make(self.computing, Trainer())


class StepsTest(unittest.TestCase):

    def test_which_steps_keep_weights(self):
        from reshard.vllm import steps
        for name, keeps in (("plain", True), ("turned", False), ("packed", False), ("reversed", False), ("chosen", True)):
            layer = Layer((6, 4), methods()[name]())
            before = dict(vars(layer)), dict(layer._parameters)
            self.assertEqual(steps.keeps_weights(layer, {"weight": layer.weight}), keeps, name)
            self.assertEqual((dict(vars(layer)), dict(layer._parameters)), before)
            self.assertTrue((layer.weight == 0).all())

    def test_a_step_that_makes_another_shape_is_refused(self):
        from reshard.vllm import steps
        layer = Layer((6, 4), methods()["turned"]())
        with self.assertRaisesRegex(steps.StepError, r"part.weight has shape \[6, 4\] in use, and its step now makes \[4, 6\]"):
            steps.run("part", layer, {"weight": torch.ones(6, 4)})


class Stack(nn.Module):
    """Five layers that look equal; the loader takes the rows of some in another order."""

    def __init__(self, turned):
        from vllm.model_executor.model_loader.reload import record_metadata_for_reloading
        super().__init__()
        self.turned, self.asked, method = turned, [], methods()["plain"]
        self.layers = nn.ModuleList(Layer((4, 3), method()) for _ in range(5))
        record_metadata_for_reloading(self)

    def load_weights(self, weights):
        for name, tensor in weights:
            layer = int(name.split(".")[1])
            self.asked.append(layer)
            into = self.layers[layer].weight.data
            if layer in self.turned:
                into[:2].copy_(tensor[2:])
                into[2:].copy_(tensor[:2])
            else:
                into.copy_(tensor)


class LayersTest(unittest.TestCase):

    def test_equal_layers_are_loaded_twice_and_others_all(self):
        from reshard.vllm.model import record
        from reshard.vllm.recording import CheckpointTensor
        tensors = [CheckpointTensor(f"layers.{layer}.weight", (4, 3), torch.float32) for layer in range(5)]
        for turned, asked in (((), [0, 4]), ((4,), [0, 4, 0, 1, 2, 3, 4]), (range(5), [0, 4])):
            model = Stack(turned)
            found = record(model, tensors)
            self.assertEqual(model.asked, asked)
            self.assertEqual(found, record(model, tensors, every_layer=True))
            self.assertEqual(list(found.parameters), [f"layers.{layer}.weight" for layer in range(5)])
            self.assertTrue(all(layer.weight.eq(0).all() for layer in model.layers))

    def test_a_missing_tensor_names_the_parameter(self):
        from reshard.vllm.model import record
        from reshard.vllm.recorder import RecordingError
        with self.assertRaisesRegex(RecordingError, "layers.0.weight cannot be recorded: 12 of its 12 elements are filled"):
            record(Stack(()), [])


class SourceTest(unittest.TestCase):
    """Experts of transformers 5 under the names of files."""

    def part(self, name, shape, start, local):
        from reshard.torch import Held, Piece
        memory = torch.zeros(local)
        return Held(name, shape, "F32", memory, [Piece(start, local, 0, tuple(4 * stride for stride in memory.stride()))])

    def test_gate_and_up_are_taken_apart(self):
        from reshard.vllm.source import in_files
        held = self.part("model.layers.0.mlp.experts.gate_up_proj", (8, 6, 4), (2, 0, 0), (2, 6, 4))
        gate, up = in_files([held], {"model.layers.0.block_sparse_moe.experts.w2.weight"})
        self.assertEqual([(one.name, one.shape) for one in (gate, up)],
                         [(f"model.layers.0.block_sparse_moe.experts.{name}.weight", (8, 3, 4)) for name in ("w1", "w3")])
        self.assertEqual(gate.pieces, [((2, 0, 0), (2, 3, 4), 0, (96, 16, 4), False)])
        self.assertEqual(up.pieces, [((2, 0, 0), (2, 3, 4), 48, (96, 16, 4), False)])
        self.assertEqual(in_files([held], {held.name}), [held])

    def test_rows_of_one_half_only(self):
        from reshard.vllm.source import in_files
        gate, up = in_files([self.part("mlp.experts.gate_up_proj", (8, 6, 4), (0, 2, 0), (8, 2, 4))], set())
        self.assertEqual(gate.pieces, [((0, 2, 0), (8, 1, 4), 0, (32, 16, 4), False)])
        self.assertEqual(up.pieces, [((0, 0, 0), (8, 1, 4), 16, (32, 16, 4), False)])
        self.assertEqual(gate.name, "mlp.experts.gate_proj.weight")

    def test_any_range_of_a_flat_parameter(self):
        """As FSDP1 cuts: elements of the whole are numbered, and each must be found where its half has it."""
        from reshard.torch import Held, Piece
        from reshard.vllm.source import in_files
        shape = (3, 4, 2)
        numbers = torch.arange(24).reshape(shape)
        for first in range(24):
            for last in range(first + 1, 25):
                piece = Piece((first,), (last - first,), 40, (4,), True)  # behind ten elements of others
                memory = torch.cat([torch.full((10,), -1), torch.arange(first, last)])
                found = torch.full((24,), -1)
                for half, part in zip(numbers.split(2, 1), in_files([Held("mlp.experts.gate_up_proj", shape, "F32", memory,
                                                                          [piece])], set())):
                    for start, extent, offset, strides, is_flat in part.pieces:
                        assert is_flat and strides == (4,)
                        values = memory[offset // 4:offset // 4 + extent[0]]
                        self.assertEqual(values.tolist(), half.flatten()[start[0]:start[0] + extent[0]].tolist())
                        found[values] = values
                self.assertEqual(found[found >= 0].tolist(), list(range(first, last)))


if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        vllm_models.prepare(folder)
        result = unittest.main(exit=False).result
    sys.exit(not result.wasSuccessful())
