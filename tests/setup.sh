# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# Sourced by tests/run.sh, perf/demo.sh and perf/figures.sh: goes to the root of the tree, installs what is missing from
# the packages of Debian 12, and defines build_preset.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

heading() { printf '\n== %s\n' "$*"; }

build_packages=(
  g++ cmake ninja-build ccache pkg-config python3  # the build
  libucx-dev libhwloc-dev                          # what moves the bytes, what describes the machine
  nlohmann-json3-dev libfmt-dev libxxhash-dev      # the library
  libpugixml-dev libyaml-cpp-dev                   # what reads descriptions of machines
  libcli11-dev                                     # the tools
  libgtest-dev libgmock-dev librapidcheck-dev      # the tests
  clang libclang-rt-14-dev                         # the sanitizers: quicker than g++ with unoptimised tests
  liblemon-dev libsimgrid-dev coinor-libclp-dev    # independent answers that tests compare with
  python3-numpy                                    # what frameworks hold, computed for the tests of whole models
)
page_packages=(chromium)  # opens the pages of reshard_plan --html without a window, to see that they draw
gpu_packages=(libbenchmark-dev)  # bench_kernels, which measures on a GPU and is built on any machine with the CUDA toolkit
framework_packages=(python3-venv)  # tests/families/environment.sh: torch, vLLM and Megatron-Core, from PyPI
lint_packages=(binutils clang-format clang-tidy doxygen)  # the last makes the reference of the headers
mpi_packages=(libopenmpi-dev openmpi-bin)  # the baseline of perf/figures.sh, and launch under mpirun

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_missing PACKAGE...: asks apt only for what is not there, so that a machine without network passes.
install_missing() {
  local missing=() package as_root=()
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  heading "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# What one checkout compiled serves another, wherever it lies.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=pch_defines,time_macros  # what it needs to know of precompiled headers

# build_preset PRESET [TARGET...]: configures, with "${configure_options[@]}", and builds into build/PRESET.
configure_options=()
build_preset() {
  local preset=$1
  shift
  heading "building preset $preset"
  cmake --preset "$preset" -DCMAKE_{C,CXX,CUDA}_COMPILER_LAUNCHER=ccache \
    "${configure_options[@]}" &&
    cmake --build --preset "$preset" ${1:+--target "$@"}
}
