# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""usage: recording_job.py      prints the seconds of 9 recordings of a worker of Qwen3-30B-A3B at EP 8, as JSON

The worker's model is built by vLLM as tests/families/record_vllm.py builds it; its memory is never touched, so that 10 GB
of it cost nothing. The first recording, which meets cold caches, is among the samples.
"""
import json
import logging
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/families"))
import record_vllm  # noqa: E402  first: it says how vLLM is to be loaded
import settings  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402

import reshard  # noqa: E402
from reshard.vllm.landing import checkpoint_tensors  # noqa: E402
from reshard.vllm.model import record  # noqa: E402

MODEL, TEXT, RANK = "Qwen3-30B-A3B", "vllm:tp=1,ep=8", 3


def main():
    logging.disable(logging.WARNING)
    record_vllm.use_any_kernel()
    record_vllm.look_at_models_here()
    config = json.loads((ROOT / f"perf/models/{MODEL}.json").read_text(encoding="utf-8"))
    tensors = checkpoint_tensors(reshard.Layout.from_text(config, "checkpoint"))
    samples = []
    with record_vllm.Worker({**config, "architectures": ["Qwen3MoeForCausalLM"]}, settings.parse(TEXT), RANK,
                            "bfloat16") as worker, set_current_vllm_config(worker.config):
        for _ in range(9):
            began = time.perf_counter()
            record(worker.model, tensors)
            samples.append(time.perf_counter() - began)
    print(json.dumps(samples))


if __name__ == "__main__":
    main()
