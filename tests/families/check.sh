#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: tests/families/check.sh [--record] [PACKAGE...]     transformers, fsdp, vllm, megatron; default all
#
# Compares the records in tests/data/families with what the packages give, or makes them anew. Skips where there is no
# environment (tests/families/environment.sh makes it; RESHARD_ORACLES may name another folder).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${RESHARD_ORACLES:-build/oracles}/bin/python
if [ ! -x "$python" ]; then
  echo "skipped: no environment with the frameworks' packages; tests/families/environment.sh makes one (6 GB)"
  exit 77
fi
mode=(--check)
if [ "${1:-}" = --record ]; then
  mode=()
  shift
fi
[ $# -gt 0 ] || set -- transformers fsdp vllm megatron
status=0
for package in "$@"; do
  "$python" -B "tests/families/record_$package.py" tests/data/families "${mode[@]}" || status=1
done
exit $status
