# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Small models with weights, and live engines of vLLM on a CPU, for the tests of the weight transfer engine."""
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What vLLM and its workers read from the environment, partly when they are imported. Without dynamo: to look up tokens in
# a vocabulary that is cut, each worker would compile a function of three lines, for 6 s of a core.
ENVIRONMENT = dict(
    VLLM_LOGGING_LEVEL=os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"), HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
    VLLM_CPU_KVCACHE_SPACE="1", VLLM_ALLOW_INSECURE_SERIALIZATION="1", OMP_NUM_THREADS="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_WORKER_MULTIPROC_METHOD="fork", TOKENIZERS_PARALLELISM="false",
    TORCHDYNAMO_DISABLE="1")
PROMPTS = [[1, 7, 42, 99], [3, 3, 250, 17, 5, 8], [400, 2]]


def prepare(folder):
    """Sets ENVIRONMENT, and makes the package known to vLLM and its workers as pip would.

    Call it before vllm is imported. folder: of the test's own.
    """
    installed = pathlib.Path(folder) / "installed/reshard-0.0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: reshard\nVersion: 0.0.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[vllm.general_plugins]\nreshard = reshard_vllm_plugin:register\n",
                                                encoding="utf-8")
    paths = [str(ROOT / "src/python"), str(ROOT / "tests/frameworks"), str(installed.parent)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = ":".join(paths + [os.environ.get("PYTHONPATH", "")])
    os.environ.update(ENVIRONMENT)


def config_of(kind):
    """transformers' config of a small model: "dense" (Qwen3, tied embedding), or "experts" (Qwen3-MoE)."""
    import transformers
    sizes = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=32, vocab_size=500, max_position_embeddings=128, dtype="bfloat16", bos_token_id=0,
                 eos_token_id=0, initializer_range=0.2)  # wide, so that other weights say other words
    if kind == "dense":
        return transformers.Qwen3Config(**sizes, tie_word_embeddings=True)
    return transformers.Qwen3MoeConfig(**sizes, tie_word_embeddings=False, num_experts=8, num_experts_per_tok=2,
                                       moe_intermediate_size=64, norm_topk_prob=True)


def make(kind, seed):
    """A model with weights that the seed decides."""
    import torch
    import transformers
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config_of(kind), dtype=torch.bfloat16).eval()


def save(model, folder):
    model.save_pretrained(folder)
    return str(folder)


def start_quickly():
    """Engine cores and workers are forked from this process, which has imported what each of them would import anew for
    10 s of a core. vLLM spawns them on a CPU, for the sake of threads that are not used here."""
    from vllm.model_executor.models import registry
    from vllm.platforms.cpu import CpuPlatform
    import vllm.v1.worker.cpu_worker  # noqa: F401
    registry._run_in_subprocess = lambda function: function()
    check = CpuPlatform.check_and_update_config.__func__

    def check_and_fork(cls, config):
        check(cls, config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(check_and_fork)


def engine(folder, tp, **options):
    """A live engine of vLLM."""
    import vllm
    start_quickly()
    return vllm.LLM(model=str(folder), skip_tokenizer_init=True, dtype="bfloat16", tensor_parallel_size=tp,
                    enforce_eager=True, max_model_len=64, max_num_seqs=4, num_gpu_blocks_override=32,
                    disable_log_stats=True, **options)


def stop(llm):
    """Ends an engine's processes."""
    llm.llm_engine.engine_core.shutdown()


def transfer_config():
    from vllm.config import WeightTransferConfig
    return WeightTransferConfig(backend="reshard")


def pointers(model):
    """For LLM.apply_model: where the live parameters lie."""
    return {name: tensor.data_ptr() for name, tensor in model.named_parameters() if tensor.numel()}


def generate(llm):
    """The tokens that an engine says after PROMPTS."""
    import vllm
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS],
                           vllm.SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False),
                           use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]
