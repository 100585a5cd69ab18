#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Live engines of vLLM that take new weights through the engine `reshard` say what freshly loaded engines say.

usage: vllm_engine_test.py        RESHARD_ALL=1: all cases; else one of the four, beside which vllm_example_test.py has dense, two ranks

Twice: other weights, from a trainer that holds them in fp32, and back to the first ones. The live parameters stay where
they are. vLLM packs weights for its CPU kernels after loading, so that all of them pass its step here; that weights which
have no step land in place is what vllm_landing_test.py looks at.
"""
import os
import sys
import tempfile
import unittest

import vllm_models

CASES = [("dense", 1), ("dense", 2), ("experts", 1), ("experts", 2)]
CASES_OF_CI = [("experts", 1)]


class Case:
    """A live engine with the weights of seed 1, and what fresh engines with those of seeds 1 and 2 say."""

    def __init__(self, folder, kind, tp):
        self.kind, self.tp = kind, tp
        paths = [vllm_models.save(vllm_models.make(kind, seed), f"{folder}/{kind}{tp}.{seed}") for seed in (1, 2)]
        fresh = vllm_models.engine(paths[1], tp)
        self.fresh = vllm_models.generate(fresh)
        vllm_models.stop(fresh)
        self.llm = vllm_models.engine(paths[0], tp, weight_transfer_config=vllm_models.transfer_config())
        self.before = vllm_models.generate(self.llm)


class EngineTest(unittest.TestCase):
    """All engines are started before the first comm: a process that has one must not fork."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        vllm_models.prepare(cls.folder.name)
        is_all = os.environ.get("RESHARD_ALL") == "1"
        if not is_all:
            print(f"skipped: {[case for case in CASES if case not in CASES_OF_CI]}, to save time; RESHARD_ALL=1 runs all")
        cls.cases = [Case(cls.folder.name, *case) for case in (CASES if is_all else CASES_OF_CI)]

    @classmethod
    def tearDownClass(cls):
        for case in cls.cases:
            vllm_models.stop(case.llm)
        cls.folder.cleanup()

    def test_tokens_are_those_of_a_fresh_engine(self):
        for case in self.cases:
            with self.subTest(kind=case.kind, tp=case.tp):
                self.look_at(case)

    def look_at(self, case):
        from reshard.vllm.replicas import LLMClient
        from reshard.vllm.source import ShardSource
        from reshard.vllm.trainer import ReshardTrainerInitInfo
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        import reshard_vllm_plugin
        reshard_vllm_plugin.register()
        self.assertNotEqual(case.before, case.fresh)
        where = case.llm.apply_model(vllm_models.pointers)
        trainer = vllm_models.make(case.kind, 2).float()
        engine = WeightTransferTrainerFactory.trainer_init(
            ReshardTrainerInitInfo(rank=0, workers_per_replica=case.tp, timeout=120), client=LLMClient(case.llm),
            source=ShardSource.of_module(trainer))
        engine.send_weights(weight_version="2")
        self.assertEqual(vllm_models.generate(case.llm), case.fresh)
        self.assertEqual(case.llm.get_weight_version(), "2")
        trainer.load_state_dict(vllm_models.make(case.kind, 1).float().state_dict())
        engine.send_weights()
        self.assertEqual(vllm_models.generate(case.llm), case.before)
        self.assertEqual(case.llm.apply_model(vllm_models.pointers), where)
        engine.shutdown()


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    unittest.main()
