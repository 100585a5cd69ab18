#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/frameworks/environment_verl.sh [FOLDER]     default build/verl
#
# Makes a Python environment with verl and Ray over that of tests/families/environment.sh (build/oracles, or
# RESHARD_ORACLES), whose packages it shares: 300 MB more. verl asks for older transformers than that has, and for packages
# of trainers that its checkpoint engines do not import; neither is installed. Says nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/verl}
oracles=$(cd "${RESHARD_ORACLES:-build/oracles}" && pwd)
python=$folder/bin/python
if [ -e "$folder/complete" ]; then exit; fi

"$oracles/bin/python" -m venv "$folder"
"$oracles/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
  "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/frameworks.pth"
"$python" -m pip install --quiet --no-deps verl==0.9.1 ray==2.56 tensordict==0.10.0 codetiming==1.4.0 hydra-core==1.3.2 \
  omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 torchdata==0.11.0 msgpack==1.2.4 orjson==3.13.0 \
  pyvers==0.2.3 importlib_metadata==10.2.0 zipp==4.1.2
"$python" -c 'import ray, verl.checkpoint_engine' 2> /dev/null
touch "$folder/complete"
