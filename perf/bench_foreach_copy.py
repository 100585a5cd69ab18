#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What torch._foreach_copy_ takes for the pieces that bench_kernels copies, as a ratio to a device-to-device copy.

usage: bench_foreach_copy.py

Needs torch and a GPU. Prints a JSON object a line; 1 is what a plain copy can do. Ends with 77 and the reason where it
cannot run.
"""
import json
import sys

ROTATION_BYTES = 64 << 20
EXPERTS, HIDDEN, INNER, SHARE = 16, 7168, 2048, 64  # one trainer's experts of DeepSeek-V3, to one of 32 ranks
CALLS = 20


def rows(torch, row_bytes):
    """Rows that fill half of their pitch in the source, as one strided view: torch's best form of them."""
    num_rows = ROTATION_BYTES // row_bytes
    source = torch.zeros((num_rows, 2 * row_bytes), dtype=torch.uint8, device="cuda")
    target = torch.zeros((num_rows, row_bytes), dtype=torch.uint8, device="cuda")
    return [target], [source[:, :row_bytes]]


def experts(torch, is_transposed):
    targets, sources = [], []
    for _ in range(EXPERTS):
        for shape, cut in (((INNER, HIDDEN), 0), ((INNER, HIDDEN), 0), ((HIDDEN, INNER), 1)):
            piece = torch.zeros(shape, dtype=torch.bfloat16, device="cuda").narrow(cut, 0, SHARE)
            sources.append(piece.t() if is_transposed else piece)
            targets.append(torch.zeros(sources[-1].shape, dtype=torch.bfloat16, device="cuda"))
    return targets, sources


def seconds(torch, work):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(CALLS):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3 / CALLS


def measure(torch, name, targets, sources):
    num_bytes = sum(target.numel() * target.element_size() for target in targets)
    plain_source = torch.zeros(num_bytes, dtype=torch.uint8, device="cuda")
    plain_target = torch.zeros_like(plain_source)

    def plain():
        plain_target.copy_(plain_source)

    def pieces():
        torch._foreach_copy_(targets, sources)  # pylint: disable=protected-access

    seconds(torch, pieces)  # warm-up
    rounds = [(seconds(torch, plain), seconds(torch, pieces)) for _ in range(5)]
    ratio = sorted(first / second for first, second in rounds)[2]
    print(json.dumps({"name": f"foreach_copy/{name}", "bytes": num_bytes, "ratio": ratio,
                      "seconds": sorted(second for _, second in rounds)[2]}))


def main():
    try:
        import torch  # not needed to build or test anything
    except ImportError:
        print("skipped: torch is not installed")
        return 77
    if not torch.cuda.is_available():
        print("skipped: torch finds no GPU")
        return 77
    for row_bytes in (128, 512, 4096):
        measure(torch, f"rows/{row_bytes}", *rows(torch, row_bytes))
    measure(torch, "experts", *experts(torch, False))
    measure(torch, "experts_transposed", *experts(torch, True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
