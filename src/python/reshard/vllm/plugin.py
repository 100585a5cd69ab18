# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The entry point of vLLM's plugin group vllm.general_plugins: makes the engines known. Imports nothing else of them."""


def register() -> None:
    """Registers the engine `reshard` for workers and for trainers. vLLM may call it more than once in a process."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory

    if "reshard" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("reshard", "reshard.vllm.engine", "Engine")
    if "reshard" not in WeightTransferTrainerFactory._registry:
        WeightTransferTrainerFactory.register_engine("reshard", "reshard.vllm.trainer", "TrainerEngine")
