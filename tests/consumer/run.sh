#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: run.sh SOURCE_DIR BUILD_DIR WORK_DIR install|cmake_c|cmake_cxx|cmake_hpp|pkg_config
set -euo pipefail
source_dir=$1 build_dir=$2 work_dir=$3 way=$4
prefix=$work_dir/moved

build_with_cmake() {
  rm -rf "$work_dir/$1"
  cmake -S "$source_dir/tests/consumer/$1" -B "$work_dir/$1" -DCMAKE_PREFIX_PATH="$prefix"
  cmake --build "$work_dir/$1"
  "$work_dir/$1/consumer"
}

case $way in
  install)
    rm -rf "$prefix" "$work_dir/installed"
    cmake --install "$build_dir" --prefix "$work_dir/installed"
    mv "$work_dir/installed" "$prefix"  # an installed package must not know where it was installed
    ;;
  cmake_c) build_with_cmake c ;;
  cmake_cxx) build_with_cmake cxx ;;
  cmake_hpp) build_with_cmake hpp ;;
  pkg_config)
    pc=$(find "$prefix" -name reshard.pc)
    export PKG_CONFIG_PATH=${pc%/*}
    # shellcheck disable=SC2046  # the flags are words
    cc -std=c99 -pedantic-errors "$source_dir/tests/consumer/c/main.c" -o "$work_dir/consumer_pc" \
      $(pkg-config --cflags --libs reshard) -Wl,-rpath,"$(pkg-config --variable=libdir reshard)"
    "$work_dir/consumer_pc"
    ;;
  *)
    echo "unknown way $way" >&2
    exit 2
    ;;
esac
