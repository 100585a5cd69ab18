#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# usage: pack.sh FOLDER     builds release and collects in FOLDER what perf/gpu_check.sh needs, at most 40 MB
set -euo pipefail
source "$(dirname "$0")/../../tests/setup.sh"
folder=$1
programs=(reshard_perf chaos kernel_fuzz map_peers bench_kernels stream_order nccl_groups)
install_missing "${build_packages[@]}" "${gpu_packages[@]}"
build_preset release reshard "${programs[@]}"

rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/lib"
for program in "${programs[@]}"; do strip -o "$folder/bin/$program" "build/release/bin/$program"; done
strip -o "$folder/lib/libreshard.so.0" build/release/lib/libreshard.so.0
# What they link and a bare machine lacks; not what every machine has and must have in one version.
for file in "$folder"/bin/* "$folder"/lib/*; do
  LD_LIBRARY_PATH=build/release/lib ldd "$file" | awk '$3 ~ "^/" {print $3}'
done | sort -u | grep -vE '/(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s|reshard))\.so' |
  xargs -I{} cp -L {} "$folder/lib/"
# UCX looks for its transports in a folder beside itself.
ucx=$(ldd "$folder/lib/libreshard.so.0" | awk '/libucp/ {print $3}')
modules=$(dirname "$(readlink -f "$ucx")")/ucx
[ ! -d "$modules" ] || cp -r "$modules" "$folder/lib/"
# NCCL of a version that takes several ranks on one device, as the registry of Python has it; of its device code only what
# an H100 runs. Without it the parts that need it are skipped, and say so.
nccl=$(mktemp -d)
if python3 -m pip download --quiet --no-deps --dest "$nccl" 'nvidia-nccl-cu13>=2.30' &&
  python3 -m zipfile -e "$nccl"/*.whl "$nccl/wheel"; then
  mkdir "$folder/nccl"
  python3 perf/gpu_check/cut_nccl.py "$nccl/wheel/nvidia/nccl/lib/libnccl.so.2" 90 "$nccl/libnccl.so.2"
  gzip -6 <"$nccl/libnccl.so.2" >"$folder/nccl/libnccl.so.2.gz"
else
  echo "packed without NCCL: its wheel could not be had"
fi
rm -rf "$nccl"
size=$(du -sm "$folder" | cut -f1)
echo "packed $folder: $size MB"
[ "$size" -le 40 ] || { echo "more than the 40 MB that a machine without network is given" && exit 1; }
