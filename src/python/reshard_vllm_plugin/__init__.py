# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The entry point of vLLM's plugin group vllm.general_plugins: makes the engines `reshard` known.

A module outside of the package, whose import would load the library and UCX with it: vLLM calls plugins in a process that
it forks its workers from, and a lock of UCX that another thread holds then is never released in the worker.
"""


def register() -> None:
    """Registers the engine for workers and for trainers. vLLM may call it more than once in a process."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory

    if "reshard" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("reshard", "reshard.vllm.engine", "Engine")
    if "reshard" not in WeightTransferTrainerFactory._registry:
        WeightTransferTrainerFactory.register_engine("reshard", "reshard.vllm.trainer", "TrainerEngine")
