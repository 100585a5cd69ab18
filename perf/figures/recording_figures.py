# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""How long the layout of a vLLM worker takes to record, in the environment of tests/families/environment.sh."""
import json
import os
import statistics
import subprocess

from tools import ROOT


def recording(tools, figures):
    print("\nRecording the layout of a vLLM worker from vLLM's own loaders")
    python = os.path.join(os.environ.get("RESHARD_ORACLES", ROOT / "build" / "oracles"), "bin", "python")
    if not os.path.exists(python):
        print(f"  {python} is not there (tests/families/environment.sh makes it): not measured")
        return
    environment = dict(os.environ, RESHARD_LIBRARY=str(tools.bin_dir.parent / "lib" / "libreshard.so"),
                       PYTHONPATH=str(ROOT / "src" / "python"), OMP_NUM_THREADS="1")
    done = subprocess.run([python, "-B", ROOT / "perf" / "figures" / "recording_job.py"], env=environment,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"recording_job.py ended with {done.returncode}:\n{done.stderr}")
    samples = [1e3 * seconds for seconds in json.loads(done.stdout.splitlines()[-1])]
    figures.add("recording.ms", "Qwen3-30B-A3B, one worker at EP 8", statistics.median(samples), " ms", "<=", 50,
                samples=samples)
