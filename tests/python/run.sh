#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: run.sh LIBRARY ENVIRONMENT SCRIPT [ARGUMENT...]
#
# Runs a test of the Python package against LIBRARY, by a Python that has numpy and cffi: one of those that are there, else
# one of a virtual environment that is made at ENVIRONMENT. Exits 77, and says why, where none can be had.
set -euo pipefail
library=$1 environment=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

has_packages() { "$1" -c 'import cffi, numpy' 2>/dev/null; }

python=
for candidate in "$environment/bin/python" python3 /usr/bin/python3; do
  if has_packages "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
  rm -rf "$environment"
  if ! { python3 -m venv "$environment" && "$environment/bin/python" -m pip install --quiet 'cffi>=1.15' numpy; }; then
    echo "skipped: no Python here has numpy and cffi, and pip could not install them into $environment"
    exit 77
  fi
  python=$environment/bin/python
fi
RESHARD_LIBRARY=$library PYTHONPATH=$root/src/python exec "$python" -B "$@"
