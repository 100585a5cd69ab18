#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""New weights for a model in use, through vLLM's own steps: latent attention, and linears in blocks of 8-bit floats.

A model is loaded and processed by vLLM with the files of seed 1. The files of seed 2 then land where the recording says,
and pass the steps. All that the model holds must be what vLLM itself makes of the files of seed 2 in a fresh model, in the
memory that it had before.
"""
import logging
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/families"), str(ROOT / "src/python")]
import record_vllm  # first: it says how vLLM is to be loaded
import torch
from vllm.config import set_current_vllm_config
from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUFp8BlockScaledMMKernel
from vllm.model_executor.layers import utils as layer_utils
from vllm.model_executor.model_loader.reload import record_metadata_for_reloading
from vllm.model_executor.model_loader.utils import process_weights_after_loading

import reshard
import settings
from reshard.vllm import steps
from reshard.vllm.landing import DTYPES, Landing
from reshard.vllm.model import record
from reshard.vllm.recording import CheckpointTensor

BLOCK = 128  # rows and columns that share a scale
DENSE = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 3, "hidden_size": 256,
         "intermediate_size": 512, "vocab_size": 131, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
         "max_position_embeddings": 64, "tie_word_embeddings": False, "dtype": "bfloat16"}
LATENT = {**DENSE, "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "num_key_value_heads": 8,
          "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64, "v_head_dim": 64,
          "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
          "moe_intermediate_size": 32, "first_k_dense_replace": 3, "topk_method": "noaux_tc"}
IN_BLOCKS = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic",
                                     "fmt": "e4m3"}}
CASES = [("latent attention", LATENT, "vllm:tp=1", 0), ("latent attention", LATENT, "vllm:tp=2", 1),
         ("8-bit blocks", {**DENSE, **IN_BLOCKS}, "vllm:tp=2", 1),
         ("latent attention in 8-bit blocks", {**LATENT, **IN_BLOCKS}, "vllm:tp=2", 1)]


def checkpoint_tensors(config):
    """What the files hold: of a quantised model each linear of a layer in 8 bits, and a scale for each of its blocks. The
    second layer of Qwen has two of the four scales of attention, other layers none: what is not in files is vLLM's to say."""
    found = []
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    for tensor in reshard.Layout.from_text(plain, "checkpoint").tensors:
        is_quantised = "quantization_config" in config and "_proj" in tensor.name and len(tensor.shape) == 2
        found.append(CheckpointTensor(tensor.name, tensor.shape, torch.float8_e4m3fn if is_quantised else DTYPES[tensor.dtype]))
        if is_quantised:
            blocks = tuple(-(-extent // BLOCK) for extent in tensor.shape)
            found.append(CheckpointTensor(tensor.name + "_scale_inv", blocks, torch.float32))
    if "quantization_config" in config and config["model_type"] == "qwen3":
        found += [CheckpointTensor(f"model.layers.1.self_attn.{part}_proj.output_scale", (), torch.float32) for part in "qk"]
    return found


def files(tensors, seed):
    torch.manual_seed(seed)
    return {tensor.name: (torch.rand(tensor.shape) + 0.1).to(tensor.dtype) for tensor in tensors}


def use(worker, values):
    """What vLLM does with a fresh model."""
    record_metadata_for_reloading(worker.model)
    with torch.no_grad():
        worker.model.load_weights(iter(values.items()))
        process_weights_after_loading(worker.model, worker.config.model_config, torch.device("cpu"))


def held(model):
    """All tensors that modules hold, as parameters, buffers, or beside them."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for prefix, module in model.named_modules():
        found.update({f"{prefix}.{name}": value for name, value in vars(module).items() if isinstance(value, torch.Tensor)})
    return {name: tensor.detach() for name, tensor in found.items() if tensor.numel()}


class Landed:
    """A layer of a reload: here all of the model at once."""

    def __init__(self, buffers):
        self.buffers = buffers


def land(model, dtype, tensors, values):
    """Writes what the recording says, live or in scratch, and does the steps."""
    recording = record(model, tensors)
    landing = Landing(model, recording)
    scratch, kept = {}, []
    for name, parameter in recording.parameters.items():
        if name in landing.memory:
            memory = landing.memory[name].owner.detach().as_strided((parameter.size_bytes // parameter.dtype.itemsize,), (1,))
        else:
            memory = torch.zeros(parameter.size_bytes // parameter.dtype.itemsize, dtype=parameter.dtype)
            scratch[name] = reshard.Memory(memory.data_ptr(), parameter.size_bytes)
            kept.append(memory)
        for block in recording.blocks[name]:
            place = memory.as_strided(block.shape, block.strides, block.offset)
            box = tuple(slice(first, first + extent) for first, extent in zip(block.begin, block.shape))
            place.copy_(torch.zeros(()) if block.is_zero else values[block.tensor][box])
    landing.take(Landed(scratch))
    steps.finish_attention(model, dtype)
    return len(scratch), len(landing.memory)


def look_at_linears():
    """A CPU's unquantised linears would be packed where no test can look; those of 8 bits are packed in place, which needs
    none of the CPU's instructions for matrices as computing does."""
    CPUFp8BlockScaledMMKernel.is_supported = classmethod(lambda *_: (True, None))
    layer_utils.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: setattr(
        layer, "cpu_linear", torch.nn.functional.linear)
    if not hasattr(torch.ops._C, "convert_weight_packed"):
        # vLLM's code for CPUs without AVX-512 can't pack. What packs is vLLM's own and not looked at here: any other order
        # of the bytes asks the same of the steps.
        torch.ops._C.convert_weight_packed = lambda weight: weight.view(torch.int8).flip(-1).view(weight.dtype)


def compare(config, text, rank):
    tensors = checkpoint_tensors(config)
    first, second = files(tensors, 1), files(tensors, 2)
    with record_vllm.Worker(config, settings.parse(text), rank, "bfloat16") as worker, set_current_vllm_config(worker.config):
        use(worker, second)
        expected = {name: tensor.clone() for name, tensor in held(worker.model).items()}
    with record_vllm.Worker(config, settings.parse(text), rank, "bfloat16") as worker, set_current_vllm_config(worker.config):
        use(worker, first)
        before = held(worker.model)
        where = {name: tensor.data_ptr() for name, tensor in before.items()}
        counts = land(worker.model, worker.config.model_config.dtype, tensors, second)
        found = held(worker.model)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name].float(), tensor.float()), f"{name} is not as in a fresh model"
    assert where == {name: tensor.data_ptr() for name, tensor in found.items()}, "memory has moved"
    return f"{len(found)} tensors as in a fresh model; {counts[0]} landed in scratch, {counts[1]} in place"


def main():
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    record_vllm.use_any_kernel()
    record_vllm.look_at_models_here()
    look_at_linears()
    for name, config, text, rank in CASES:
        print(f"{name}, {text} rank {rank}: {compare(config, text, rank)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
