#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: format.sh ROOT     fails, naming the places, when clang-format would change a file of the tree
set -euo pipefail
cd "$1"
find include src topology kernels perf examples tests -regextype posix-extended -regex '.*\.(h|hpp|c|cc|cu|cuh)' -print0 |
  xargs -0 clang-format --dry-run --Werror
