#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: run_verl.sh LIBRARY MODULES SCRIPT [ARGUMENT...]      as run.sh, in the environment of environment_verl.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${RESHARD_VERL:-$root/build/verl}
if [ ! -x "$folder/bin/python" ]; then
  echo "skipped: no environment with verl and Ray in $folder; tests/frameworks/environment_verl.sh makes one"
  exit 77
fi
RESHARD_ORACLES=$folder exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" "$@"
