# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The server: a live engine of vLLM, which the trainers' rank 0 calls through a pipe.

This process imports vLLM and not reshard: the engine's workers and the trainers are forked from it, and load reshard each
for itself.
"""
import vllm
from vllm.config import WeightTransferConfig

PROMPTS = [[1, 7, 42, 99], [3, 3, 250, 17, 5, 8], [400, 2, 11], [77, 78, 79, 80]]
LENGTH = 8  # tokens of an answer


class Server:
    """An engine with the weights of a folder, to which the weight transfer engine `reshard` is switched on."""

    def __init__(self, folder, workers):
        self.llm = vllm.LLM(model=folder, skip_tokenizer_init=True, dtype="bfloat16", tensor_parallel_size=workers,
                            enforce_eager=True, max_model_len=64, max_num_seqs=16,
                            num_gpu_blocks_override=64, disable_log_stats=True,
                            weight_transfer_config=WeightTransferConfig(backend="reshard"))

    def init_weight_transfer_engine(self, init_info):
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self):
        self.llm.start_weight_update()

    def update_weights(self, update_info):
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version):
        self.llm.finish_weight_update(weight_version)

    def generate(self, count, temperature, seed):
        """[(prompt, answer), ...], `count` answers to each prompt."""
        options = vllm.SamplingParams(temperature=temperature, n=count, max_tokens=LENGTH, ignore_eos=True,
                                      detokenize=False, seed=seed)
        outputs = self.llm.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], options, use_tqdm=False)
        return [(list(output.prompt_token_ids), list(answer.token_ids))
                for output in outputs for answer in output.outputs]

    def greedy(self):
        return [answer for _, answer in self.generate(1, 0, 0)]

    def serve(self, connection):
        """Does what the trainers ask for, until they hang up."""
        while True:
            try:
                name, arguments = connection.recv()
            except EOFError:
                return
            try:
                connection.send((True, getattr(self, name)(*arguments)))
            except Exception as error:  # it is the trainers' to decide what to do
                connection.send((False, f"{type(error).__name__}: {error}"))

    def stop(self):
        self.llm.llm_engine.engine_core.shutdown()


class Client:
    """The other end of the pipe: the control plane that the trainer's engine drives, and `generate`."""

    def __init__(self, connection):
        self.connection = connection

    def _call(self, name, *arguments):
        self.connection.send((name, arguments))
        is_well, result = self.connection.recv()
        if not is_well:
            raise RuntimeError(result)
        return result

    def init_weight_transfer_engine(self, init_info):
        self._call("init_weight_transfer_engine", init_info)

    def start_weight_update(self):
        self._call("start_weight_update")

    def update_weights(self, update_info):
        self._call("update_weights", update_info)

    def finish_weight_update(self, weight_version=None):
        self._call("finish_weight_update", weight_version)

    def generate(self, count, temperature, seed):
        return self._call("generate", count, temperature, seed)

    def greedy(self):
        return self._call("greedy")
