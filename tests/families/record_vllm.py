#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What each worker of vLLM holds, as its own loaders put it there: records of each family, for tests without vLLM.

usage: record_vllm.py FOLDER [FAMILY...] [--check]

Writes FOLDER/vllm/FAMILY.json from the checkpoints of FOLDER/FAMILY.json. All ranks of an engine are built one after
the other in this process: torch's "fake" process group answers for the others, which no loader asks. The checkpoint's
elements are numbered, in fp32, which holds them exactly; after load_weights each parameter's memory tells which element
lies where (boxes.py). A second build in bf16 gives the types.
"""
import argparse
import json
import logging
import os
import pathlib
import sys
import tempfile
import types

os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
                  VLLM_KIMI_K3_GEMM_AR="0", VLLM_ENABLE_GEMM_RS="0")  # kernels that are built for a GPU
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
import vllm  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import parallel_state  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.layers.fused_moe.oracle.unquantized import (  # noqa: E402
    UnquantizedMoeBackend, backend_to_kernel_cls)
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.model_executor.models.interfaces import is_mixture_of_experts  # noqa: E402
from vllm.model_executor.models import registry  # noqa: E402
from vllm.model_executor.models import utils as model_utils  # noqa: E402
from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402
from vllm.utils.torch_utils import set_default_torch_dtype  # noqa: E402

import boxes  # noqa: E402
import contents  # noqa: E402
import names  # noqa: E402
import remote_code  # noqa: E402
import settings  # noqa: E402
import zoo  # noqa: E402

TYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}


class Group(parallel_state.GroupCoordinator):
    """A group of ranks of which only this one is there: who is in it, and no way to talk."""

    def __init__(self, group_ranks, local_rank, torch_distributed_backend=None, group_name="world", **_):
        self.unique_name = parallel_state._get_unique_name(group_name)
        parallel_state._register_group(self)
        self.rank, self.local_rank, self.device_index = dist.get_rank(), local_rank, local_rank
        self.group_ranks = group_ranks
        self.ranks = next(ranks for ranks in group_ranks if self.rank in ranks)
        self.world_size, self.rank_in_group = len(self.ranks), self.ranks.index(self.rank)
        self.torch_distributed_backend, self.device = torch_distributed_backend, torch.device("cpu")
        self.cpu_group = self.device_group = dist.new_group(self.ranks, backend="fake")
        self.use_device_communicator, self.device_communicator, self.mq_broadcaster = False, None, None
        self.use_custom_op_call = self.use_cpu_custom_send_recv = False

    def destroy(self):
        pass


parallel_state.GroupCoordinator = Group


class Stream:
    """Kimi-Linear makes one on the GPU that is not here; nothing is computed."""

    def __init__(self, *_, **__):
        pass


torch.cuda.Stream = Stream


def use_any_kernel():
    """A CPU has none for experts that are spread over ranks, nor for sparse attention; nothing is computed here."""
    for kernel in backend_to_kernel_cls(UnquantizedMoeBackend.CPU):
        kernel.is_supported_config = staticmethod(lambda *_: (True, None))
    choose = CpuPlatform.get_attn_backend_cls.__func__

    def choose_without_sparsity(cls, selected_backend, attn_selector_config, **others):
        return choose(cls, selected_backend, attn_selector_config._replace(use_sparse=False), **others)

    CpuPlatform.get_attn_backend_cls = classmethod(choose_without_sparsity)


def look_at_models_here():
    """Not in a process of its own for each class, which would import everything anew."""
    registry._run_in_subprocess = lambda function: function()


class Worker:
    """The model of one rank, as long as the with statement lasts."""

    def __init__(self, config, setting, rank, dtype):
        self.folder = tempfile.TemporaryDirectory()  # some models read their config again
        (pathlib.Path(self.folder.name) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.config = engine_config(self.folder.name, setting, dtype)
        self.setting, self.rank = setting, rank
        self.config.parallel_config.rank = rank % (setting["tp"] * setting["pp"])
        self.config.parallel_config.data_parallel_rank = rank // (setting["tp"] * setting["pp"])

    def __enter__(self):
        num_ranks = settings.num_ranks(self.setting)
        dist.init_process_group("fake", rank=self.rank, world_size=num_ranks, store=FakeStore())
        with set_current_vllm_config(self.config):
            parallel_state._WORLD = Group([list(range(num_ranks))], self.rank)
            parallel_state.initialize_model_parallel(self.setting["tp"], self.setting["pp"], backend="fake")
            with set_default_torch_dtype(self.config.model_config.dtype):
                self.model = initialize_model(self.config)
                self.draft = self.new_draft() if self.config.speculative_config else None
        return self

    def new_draft(self):
        """The model that predicts several tokens, which only a last stage has."""
        if not parallel_state.get_pp_group().is_last_rank:
            return None
        return initialize_model(self.config, model_config=self.config.speculative_config.draft_model_config)

    def share(self):
        """What the draft takes from the target once both are loaded, as the engine itself does it."""
        if self.draft is None:
            return
        proposer = types.SimpleNamespace(model=self.draft, vllm_config=self.config, use_local_argmax_reduction=False)
        SpecDecodeBaseProposer._maybe_share_embeddings(proposer, self.model)
        SpecDecodeBaseProposer._maybe_share_lm_head(proposer, self.model)

    def __exit__(self, *_):
        parallel_state.destroy_model_parallel()
        parallel_state._WORLD = None
        dist.destroy_process_group()
        self.folder.cleanup()
        sys.excepthook = sys.__excepthook__  # each group wraps it once more
        model_utils._model_to_pp_missing_layer_names.clear()  # kept by id(), which the next model may have

    def named(self, kind):
        """Of both models, by name, each once; "draft." before the draft's."""
        found = dict(getattr(self.model, kind)())
        if self.draft is not None:
            of_target = {id(tensor) for tensor in found.values()}
            found.update({"draft." + name: tensor for name, tensor in getattr(self.draft, kind)()
                          if id(tensor) not in of_target})
        return found

    def tensors(self):
        return {**self.named("named_parameters"), **self.named("named_buffers")}


def engine_config(folder, setting, dtype):
    experts = {}
    if setting["ep"]:
        experts = dict(enable_expert_parallel=True, expert_placement_strategy=setting["placement"])
    if setting["mtp"]:
        experts["speculative_config"] = dict(method="mtp", num_speculative_tokens=setting["mtp"])
    config = EngineArgs(
        model=folder, skip_tokenizer_init=True, dtype=dtype, tensor_parallel_size=setting["tp"],
        pipeline_parallel_size=setting["pp"], data_parallel_size=setting["dp"], load_format="dummy",
        enforce_eager=True, max_model_len=32, block_size=32,
        mm_encoder_tp_mode=setting["mm_encoder_tp_mode"], **experts).create_engine_config()
    if setting["redundant"]:  # afterwards, for a CPU would be refused
        config.parallel_config.enable_eplb = True
        config.parallel_config.eplb_config.num_redundant_experts = setting["redundant"]
    return config


def in_published_order(config, name, numbers):
    """Stacked experts of Qwen3-VL-MoE are [in, out] in published files, which vLLM reads, and not in transformers 5's."""
    is_turned = config["model_type"] == "qwen3_vl_moe" and ".experts." in name
    return np.ascontiguousarray(numbers.swapaxes(1, 2)) if is_turned else numbers


def memory_of(checkpoint, config, setting, rank):
    """{parameter: array of numbers} of one rank, what the loaders never wrote left out."""
    with Worker(config, setting, rank, "float32") as worker:
        # What vLLM itself asks before it balances experts.
        assert not setting["redundant"] or is_mixture_of_experts(worker.model), "no redundant experts in this family"
        tensors = worker.tensors()
        was_buffer = worker.named("named_buffers")
        for name, tensor in tensors.items():
            if name not in was_buffer:
                tensor.data.fill_(boxes.UNTOUCHED)
        before = {name: tensor.clone() for name, tensor in was_buffer.items()}
        with set_current_vllm_config(worker.config), torch.no_grad():
            for model in [worker.model] + [worker.draft] * (worker.draft is not None):
                model.load_weights(
                    (settings.published_name(name),
                     torch.from_numpy(in_published_order(config, name, checkpoint.numbers(name)).astype(np.float32)))
                    for name in checkpoint.files)
        worker.share()
        found = {}
        for name, tensor in worker.tensors().items():
            if name in before and torch.equal(before[name], tensor):
                continue
            array = tensor.detach().to(torch.float64).numpy()
            numbers = array.astype(np.int64)
            assert (numbers == array).all() and numbers.max(initial=0) < checkpoint.ends[-1], f"{name} is computed"
            assert (numbers != boxes.UNTOUCHED).any() or numbers.size == 0, f"{name} is never loaded"
            found[name] = numbers
        return found


def types_of(config, setting, rank):
    with Worker(config, setting, rank, "bfloat16") as worker:
        worker.share()
        return {name: TYPES.get(tensor.dtype, str(tensor.dtype)) for name, tensor in worker.tensors().items()}


def record_model(variant, model):
    checkpoint = boxes.Checkpoint(names.expand(model["files"]))
    config = {**remote_code.server_config(model["config"]), "architectures": [model["class"]]}
    table, ranks = contents.Table(), {}
    for text in settings.texts(model["config"], variant):
        setting = settings.parse(text)
        ranks[text] = []
        for rank in range(settings.num_ranks(setting)):
            memory, types = memory_of(checkpoint, config, setting, rank), types_of(config, setting, rank)
            ranks[text].append(table.add_rank(
                {name: (types[name], list(array.shape), boxes.cut(checkpoint, array))
                 for name, array in memory.items()}))
    return {"ranks": ranks, "lines": list(table.lines)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    use_any_kernel()
    look_at_models_here()
    remote_code.register()
    failed = 0

    for family in arguments.families or list(zoo.ZOO):
        path = arguments.folder / "vllm" / f"{family}.json"
        models = json.loads((arguments.folder / f"{family}.json").read_text(encoding="utf-8"))["models"]
        found = {"family": family, "package": f"vllm {vllm.__version__}",
                 "models": {variant: record_model(variant, model) for variant, model in models.items()
                            if isinstance(model["config"], dict)}}
        failed += not contents.write_or_check(path, found, arguments.check)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
