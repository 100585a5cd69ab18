# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Runs the tools of a build and reads what they report."""
import json
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPECS = ROOT / "perf" / "specs"
MODELS = ROOT / "perf" / "models"
MACHINES = ROOT / "perf" / "machines"


class Tools:
    def __init__(self, bin_dir):
        self.bin_dir = pathlib.Path(bin_dir)

    def has(self, name):
        return (self.bin_dir / name).exists()

    def run(self, name, *arguments):
        """The JSON report of one of the project's tools."""
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            self._call([self.bin_dir / name, *arguments, "--json", report])
            return json.loads(report.read_text(encoding="utf-8"))

    def live(self, *arguments):
        """A run of reshard_perf in which every element was right."""
        report = self.run("reshard_perf", *arguments, "--patterns", "0")
        if report["wrong_elements"] != 0:
            raise RuntimeError(f"reshard_perf {arguments}: {report['wrong_elements']} wrong elements")
        return report

    def paper(self, *arguments):
        return self.run("reshard_plan", *arguments)

    def alltoallw(self, iterations, warmups):
        """The baseline over MPI; its last line of output is its report."""
        mpirun = ["mpirun", "--oversubscribe", "-n", "4", self.bin_dir / "bench_alltoallw", iterations, warmups]
        report = json.loads(self._call(mpirun).splitlines()[-1])
        if report["wrong_elements"] != 0:
            raise RuntimeError(f"bench_alltoallw: {report['wrong_elements']} wrong elements")
        return report

    @staticmethod
    def _call(command):
        # mpirun refuses root unless told twice; a container is usually run as root.
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        words = [str(word) for word in command]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout
