#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""How near the limit plans are on random clusters, and how long planning takes.

usage: clusters.py BIN_DIR [--count N] [--seed S] [--only K] [--jobs N] [--check WHAT]... [--json FILE] [--keep FOLDER]

Cluster K of a seed is always the same one: `--only K` shows it with the command that plans for it. A missed goal is
printed, not an error; a plan that could not be made is.

  loss     a plan made again after a loss is slower than one made anew for the ranks that stay (1.05 is allowed)

Planning ends at 1.005 of what it can prove, so that what is slower by less may be as near its limit as the other.

Times are compared with the largest lower bound: `estimate` by the plan's own model, `load` without the time to fill
chains, `simulated` as a fluid. Checks, each of which must find nothing:

  unicast  a copy of its own for every rank that wants one is quicker (free: every report has it)
  links    the same machine with nothing but the network between the ranks of a node is quicker, for the same transfer,
           and the bound does not say that it must be
  orders   with --open-groups a freer order is slower: rotated than fixed, any than rotated
  open     one more open group is slower, in each order
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from random_clusters import Case

COUNT = 840
KINDS = ("estimate", "load", "simulated")
LIMITS = (1.01, 1.05, 1.2, 1.5)
PERCENTILES = (50, 90, 99, 100)
NUM_WORST = 8
ROUNDING = 1e-6  # times are read from text
ORDERS = ("fixed", "rotated", "any")


class PlanFailed(Exception):
    """The tool made no plan; its message."""


class Planner:
    """reshard_plan on the clusters of a folder."""

    def __init__(self, bin_dir, folder):
        self.program = pathlib.Path(bin_dir).resolve() / "reshard_plan"
        self.folder = pathlib.Path(folder)

    def write(self, name, cluster):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(cluster, indent=1) + "\n", encoding="utf-8")
        return path

    def command(self, case, path, *options):
        return [str(self.program), *case.arguments(), "--cluster", str(path), *options]

    def run(self, case, path, *options):
        report = path.with_suffix(".report")
        done = subprocess.run([*self.command(case, path, *options), "--streams", "0", "--json", str(report)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PlanFailed(done.stderr.strip() or f"ended with {done.returncode}")
        text = report.read_text(encoding="utf-8")
        report.unlink()
        return json.loads(text)


def load_seconds(report):
    return report["estimate_seconds"] - report["fill_seconds"]


def ratio(value, of):
    """1 where there is nothing to move."""
    if of > 0:
        return value / of
    return 1.0 if value == 0 else float("inf")


def ratios(report):
    seconds = {"estimate": report["estimate_seconds"], "load": load_seconds(report),
               "simulated": report["simulated_seconds"]}
    return {kind: ratio(seconds[kind], report["bound_seconds"]) for kind in KINDS}


class Trial:
    """One cluster: its plan, and others that this one is compared with."""

    def __init__(self, planner, case):
        self.planner = planner
        self.case = case
        self.path = planner.write(f"cluster-{case.seed}-{case.number}", case.cluster)
        self.in_order = {}  # load by order and open groups
        self.changed = None  # share of the bytes that a loss sends another way

    def command(self):
        return shlex.join(self.planner.command(self.case, self.path, "--simulate"))

    def plan(self):
        self.report = self.planner.run(self.case, self.path, "--simulate")
        return self.report

    def load_in_order(self, order, num_open):
        key = (order, num_open)
        if key not in self.in_order:
            options = ("--order", order, "--open-groups", str(num_open))
            self.in_order[key] = load_seconds(self.planner.run(self.case, self.path, *options))
        return self.in_order[key]


# Each check gives rows of what was compared and this plan's time over the other's. They are loads: nothing is counted in
# favour of filling chains, which unicast has not.


def check_unicast(trial):
    ways = trial.report["comparison"]
    unicast = next(way["seconds"] for way in ways if way["name"].startswith("unicast"))
    return [("unicast", ratio(load_seconds(trial.report), unicast))]


def check_links(trial):
    cluster = trial.case.cluster_without_links()
    if cluster is None:
        return []
    path = trial.planner.write(f"{trial.path.stem}-without-links", cluster)
    try:
        without = trial.planner.run(trial.case, path)
    except PlanFailed:
        return []  # only links lead to some ranks
    # What links join never goes over the network. Where links are slow and NICs quick no plan may be as quick as without
    # them; the bound says where, and no plan is asked for more.
    limit = max(load_seconds(without), trial.report["bound_seconds"])
    what = "links" if limit == load_seconds(without) else "the bound, as no plan with links is quicker than without"
    return [(what, ratio(load_seconds(trial.report), limit))]


def check_orders(trial):
    num = trial.case.open_groups
    return [(f"{freer} than {strict}, {num} open",
             ratio(trial.load_in_order(freer, num), trial.load_in_order(strict, num)))
            for strict, freer in zip(ORDERS, ORDERS[1:])]


def check_open(trial):
    num = trial.case.open_groups
    return [(f"{num + 1} open than {num}, {order}",
             ratio(trial.load_in_order(order, num + 1), trial.load_in_order(order, num)))
            for order in ORDERS]


def check_loss(trial):
    if trial.case.lost is None:
        return []
    options = ("--lose", "{}-{}".format(*trial.case.lost))
    again = trial.planner.run(trial.case, trial.path, *options)
    anew = trial.planner.run(trial.case, trial.path, *options, "--anew")
    changed = again["replanned"]
    trial.changed = ratio(changed["bytes_changed"], changed["bytes"])
    return [(f"replanned without {options[1]}", ratio(load_seconds(again), load_seconds(anew)))]


CHECKS = {"unicast": check_unicast, "links": check_links, "orders": check_orders, "open": check_open, "loss": check_loss}
ALLOWED = {"loss": 1.05}
ALLOWED_ELSE = 1.01


def measure(planner, case, checks):
    """One cluster's row, without exceptions: what failed is a part of it."""
    trial = Trial(planner, case)
    row = {"number": case.number, "command": trial.command()}
    try:
        report = trial.plan()
        row.update(job=report["job"], ranks=report["ranks"], bundles=report["bundles"], ratios=ratios(report),
                   bound_seconds=report["bound_seconds"], bound_name=report["bound_name"],
                   binding_resource=report["binding_resource"], planning_seconds=report["planning_seconds"],
                   hash=report["hash"])
        row["checks"] = {name: CHECKS[name](trial) for name in checks}
        row["changed_by_loss"] = trial.changed
    except PlanFailed as error:
        row["failed"] = str(error)
    return row


def measure_all(planner, numbers, seed, checks, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        rows = []
        for row in pool.map(lambda number: measure(planner, Case(seed, number), checks), numbers):
            rows.append(row)
            if sys.stderr.isatty():
                print(f"\r{len(rows)} of {len(numbers)}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return rows


def percentile(values, percent):
    """Nearest rank."""
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def distribution(values):
    return {"within": {str(limit): sum(value <= limit for value in values) / len(values) for limit in LIMITS},
            "over_1.2": sum(value > 1.2 for value in values),
            "percentiles": {str(percent): percentile(values, percent) for percent in PERCENTILES}}


def summary_of_checks(rows):
    """By check: how many comparisons, how many are lost at all and by more than is allowed, and the worst."""
    out = {}
    for row in rows:
        for name, comparisons in row["checks"].items():
            allowed = ALLOWED.get(name, ALLOWED_ELSE)
            of = out.setdefault(name, {"compared": 0, "slower": 0, "allowed": allowed, "over_allowed": 0, "worst": 0.0})
            for what, times in comparisons:
                of["compared"] += 1
                of["slower"] += times > 1 + ROUNDING
                of["over_allowed"] += times > allowed
                if times > of["worst"]:
                    of.update(worst=times, worst_number=row["number"], worst_what=what)
    changed = [row["changed_by_loss"] for row in rows if row["changed_by_loss"] is not None]
    if changed:
        out["loss"].update(changed_median=percentile(changed, 50), changed_most=max(changed))
    return out


def summarise(rows):
    planned = [row for row in rows if "failed" not in row]
    out = {"planned": len(planned), "failed": len(rows) - len(planned)}
    if planned:
        for kind in KINDS:
            out[kind] = distribution([row["ratios"][kind] for row in planned])
        slowest = max(planned, key=lambda row: row["planning_seconds"])
        out["planning_seconds"] = {"worst": slowest["planning_seconds"], "worst_number": slowest["number"],
                                   "median": percentile([row["planning_seconds"] for row in planned], 50)}
        out["checks"] = summary_of_checks(planned)
    return out


def print_summary(summary, rows):
    print(f"{'/ bound':<12}" + "".join(f"{'<= ' + str(limit):>9}" for limit in LIMITS) +
          f"{'> 1.2':>8}" + "".join(f"{'p' + str(percent) if percent < 100 else 'worst':>9}" for percent in PERCENTILES))
    for kind in KINDS:
        of = summary[kind]
        print(f"{kind:<12}" + "".join(f"{of['within'][str(limit)]:>9.1%}" for limit in LIMITS) +
              f"{of['over_1.2']:>8}" + "".join(f"{of['percentiles'][str(percent)]:>9.3f}" for percent in PERCENTILES))
    planning = summary["planning_seconds"]
    print(f"planning: median {planning['median'] * 1e3:.2f} ms, worst {planning['worst'] * 1e3:.1f} ms "
          f"(number {planning['worst_number']})")
    for name, of in summary["checks"].items():
        print(f"check {name}: {of['slower']} of {of['compared']} slower, {of['over_allowed']} above {of['allowed']}")
        if of["compared"]:
            print(f"  worst {of['worst']:.4f} times: {of['worst_what']} (number {of['worst_number']})")
        if "changed_median" in of:
            print(f"  bytes on other routes: median {of['changed_median']:.1%}, most {of['changed_most']:.1%}")


def print_worst(rows, seed):
    print("\nfarthest from the bound (show one with --seed S --only NUMBER --keep FOLDER):")
    for row in sorted(rows, key=lambda row: -row["ratios"]["estimate"])[:NUM_WORST]:
        of = row["ratios"]
        print(f"  --seed {seed} --only {row['number']:<4} estimate {of['estimate']:.3f}, load {of['load']:.3f}, simulated "
              f"{of['simulated']:.3f}: {row['job']}, {row['ranks']} ranks; {row['binding_resource']}")


def add_figures(figures, summary):
    """The goals that the plans of random clusters are held to."""
    within = summary["estimate"]["within"]["1.05"]
    figures.add("clusters.failed", "random clusters without a plan", summary["failed"], "", "==", 0)
    figures.add("clusters.estimate.within_1.05", "share of estimates within 1.05 of the bound", within, "", ">=", 0.99)
    figures.add("clusters.estimate.worst", "worst estimate / bound", summary["estimate"]["percentiles"]["100"], "", "<=",
                1.2)
    figures.add("clusters.simulated.within_1.05", "share of simulated within 1.05 of the bound",
                summary["simulated"]["within"]["1.05"], "", ">=", 0.97)
    figures.add("clusters.planning.worst", "worst planning time", summary["planning_seconds"]["worst"], " s", "<=", 0.5)
    for name, of in summary["checks"].items():
        figures.add(f"clusters.checks.{name}", f"above {of['allowed']} of the alternative: {name}", of["over_allowed"], "",
                    "==", 0, compared=of["compared"], worst=of["worst"])
        figures.add(f"clusters.checks.{name}.at_all", f"slower than the alternative at all: {name}", of["slower"])


def clusters(tools, figures):
    """As a part of measure.py."""
    print(f"\nRandom clusters: {COUNT} of seed 1")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(Planner(tools.bin_dir, folder), range(COUNT), 1, list(CHECKS), os.cpu_count())
    add_figures(figures, summarise(rows))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many clusters ({COUNT})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="K", help="this one alone, with its command")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (one per core)")
    parser.add_argument("--check", action="append", choices=[*CHECKS, "all"], default=[], metavar="WHAT",
                        help="compare with alternatives: " + ", ".join(CHECKS) + ", or all")
    parser.add_argument("--json", metavar="FILE", help="write distribution and rows here")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the clusters' files here")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    checks = list(CHECKS) if "all" in arguments.check else ["unicast", *arguments.check]
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.keep:
            folder = arguments.keep
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        rows = measure_all(Planner(arguments.bin_dir, folder), numbers, arguments.seed, dict.fromkeys(checks),
                           arguments.jobs)
    summary = summarise(rows)
    planned = [row for row in rows if "failed" not in row]
    if planned:
        print(f"{len(planned)} random clusters of seed {arguments.seed}")
        print_summary(summary, planned)
        print_worst(planned, arguments.seed)
    if arguments.only is not None:
        print(f"\n{rows[0]['command']}")
    if arguments.json:
        report = {"version": 1, "seed": arguments.seed, "count": len(rows), "summary": summary, "rows": rows}
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        if "failed" in row:
            print(f"\nno plan for --seed {arguments.seed} --only {row['number']}: {row['failed']}\n{row['command']}")
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
