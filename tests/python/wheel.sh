#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: wheel.sh BUILD_DIR BUILD_TYPE FLAGS CC CXX RESHARD_CUDA RESHARD_JOIN_SOURCES RESHARD_PRECOMPILE
#
# Builds a wheel with the tree's own CMake, looks at what is in it, and uses it in an environment that has nothing else of
# reshard. Beside BUILD_DIR and with its compilers and flags, so that ccache has what was built there: without ccache, or
# where pip gets no scikit-build-core, it exits 77 and says so.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tree=$(dirname "$1")/wheel type=$2 flags=$3
work=$1/python_wheel
export CC=$4 CXX=$5 CMAKE_GENERATOR=Ninja
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
unset RESHARD_LIBRARY PYTHONPATH

skip() { echo "skipped: $*" && exit 77; }
fail() { echo "error: $*" && exit 1; }
command -v ccache > /dev/null || skip "without ccache the library would be compiled a second time"
export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
rm -rf "$work" && mkdir -p "$work"
python3 -m venv "$work/environment" || skip "there is no venv"
python=$work/environment/bin/python
"$python" -m pip install --quiet 'scikit-build-core>=0.10' 'cffi>=1.15' numpy > "$work/pip.log" 2>&1 ||
  { cat "$work/pip.log" && skip "pip cannot install scikit-build-core, cffi and numpy"; }

"$python" -m pip wheel --no-deps --no-build-isolation "$root/src/python" --wheel-dir "$work" -C build-dir="$tree" \
  -C cmake.define.RESHARD_WARNINGS_AS_ERRORS=ON -C cmake.define.RESHARD_CUDA="$6" \
  -C cmake.define.RESHARD_JOIN_SOURCES="$7" -C cmake.define.RESHARD_PRECOMPILE="$8" \
  -C cmake.build-type="$type" -C "cmake.define.CMAKE_CXX_FLAGS_${type^^}=$flags" -C "cmake.define.CMAKE_C_FLAGS_${type^^}=$flags" \
  > "$work/wheel.log" 2>&1 || { tail -n 50 "$work/wheel.log" && fail "no wheel"; }
wheel=$(ls "$work"/*.whl)
[[ $wheel == *-py3-none-linux_*.whl ]] || fail "the tag of $wheel is not py3-none-<platform>"
"$python" -m pip install --quiet --no-deps --no-index "$wheel"
package=$(cd "$work" && "$python" -c 'import os, reshard; print(os.path.dirname(reshard.__file__))')
[[ $package == "$work"/* ]] || fail "reshard comes from $package"

# Nothing is needed but UCX, the C and C++ runtimes, and what lies beside it.
for file in "$package"/lib/*.so.* "$package"/bin/*; do
  for needed in $(readelf --dynamic "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    [ -e "$package/lib/$needed" ] && continue
    grep -qE '^(ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|ucp|ucs|uct|ucm))\.so' <<< "$needed" || fail "$file needs $needed"
  done
done
readelf --dynamic "$package/lib/libreshard.so.0" | grep -qF '(RPATH)' || fail "libreshard does not look beside itself"
[ ! -e "$package/include" ] || fail "there are headers in the wheel"

cd "$work"
"$python" - <<'END'
import numpy, reshard, sys
assert "/python_wheel/" in open("/proc/self/maps").read(), "the library is not the wheel's"
comm, = reshard.Comm.local(1)
builder = reshard.LayoutBuilder(1)
builder.tensor("w", (4,), "F32")
builder.place("w", [0], [reshard.Replicate()])
layout = builder.build()
src, dst = numpy.arange(4, dtype=numpy.float32), numpy.zeros(4, numpy.float32)
reshard.Session(reshard.plan(layout, layout), comm, {"w": src}, {"w": dst}).run().finish()
assert (src == dst).all()
END
"$python" -m reshard plan --model Qwen3-0.6B --from fsdp:shard=4 --to vllm:tp=2 > plan.txt || fail "the tool in the wheel"
grep -q "fsdp:shard=4" plan.txt || fail "the tool in the wheel printed: $(cat plan.txt)"
"$python" -m reshard version | grep -q ucx || fail "the library in the wheel has no UCX"
echo "$wheel: needs UCX alone"
