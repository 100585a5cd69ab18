#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: run.sh LIBRARY MODULES SCRIPT [ARGUMENT...]      MODULES: what the script imports, separated by commas
#
# Runs a test against LIBRARY and the frameworks' real packages, in the environment that tests/families/environment.sh
# makes (build/oracles, or $RESHARD_ORACLES). Exits 77, and says why, where that has not got the modules.
set -euo pipefail
library=$1 modules=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${RESHARD_ORACLES:-$root/build/oracles}/bin/python
# Found, not imported: an import of torch takes seconds.
if ! missing=$("$python" - "$modules" 2>&1 <<'END'
import importlib.util, sys
print(*[name for name in sys.argv[1].split(",") if importlib.util.find_spec(name) is None], end="")
END
) || [ -n "$missing" ]; then
  echo "skipped: $python has not got ${missing##*$'\n'}; tests/families/environment.sh makes an environment"
  exit 77
fi
RESHARD_LIBRARY=$library PYTHONPATH=$root/src/python exec "$python" -B "$@"
