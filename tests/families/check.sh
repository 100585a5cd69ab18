#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/families/check.sh [--record]
#
# Compares the records in tests/data/families with what the packages give, or makes them anew. Skips where there is no
# environment (tests/families/environment.sh makes it; RESHARD_ORACLES may name another folder).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${RESHARD_ORACLES:-build/oracles}/bin/python
if [ ! -x "$python" ]; then
  echo "skipped: no environment with transformers and vLLM; tests/families/environment.sh makes one (6 GB)"
  exit 77
fi
mode=(--check)
[ "${1:-}" != --record ] || mode=()
for package in transformers vllm; do
  "$python" -B "tests/families/record_$package.py" tests/data/families "${mode[@]}" || status=1
done
exit "${status:-0}"
