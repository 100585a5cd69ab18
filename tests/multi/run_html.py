# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Opens the pages of reshard_plan --html in a browser without a window: they draw what their data say, without error.

The data of some pages come from the tool; those that must look well and seldom occur are made up here. How many cells
a page must draw is counted here from its data. Ends with 77 (skipped) where there is no browser.
"""

import argparse
import html
import json
import os
import re
import shutil
import sys

import tool

SKIPPED = 77
MOST_CELLS = 256  # of a side
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)
FOREIGN = re.compile(r"""(?:https?:)?//[\w.-]+\.\w|\bhref\b|"""
                     r"""\.src\b\s*=[^=]|<\w[^>]*\ssrc\s*=|url\(|@import|\bfetch\(|\bimport\b""")
TITLES = ["The words of this page", "How far from the limit", "Who holds what", "Traffic between domains",
          "Use of the links over time", "Progress by group", "Routes", "Message sizes", "Against other ways", "The plan"]
WORDS = ["bundle", "window", "domain", "round", "group", "open group", "bound, LB"]  # that the page explains
NARROW = 480  # pixels, at which nothing may stick out but what scrolls by itself
# Windows of so many pixels, which browsers do not open themselves, with a page in each; what a page notes is told as
# data-page0, data-page1, ...
WINDOW = """<iframe id="page%d" style="width:%dpx;height:1000px;border:0" srcdoc="%s"></iframe>"""
WINDOWS = """<!doctype html><html><body>%s<script>window.onload = () => {
  for (const window of document.querySelectorAll("iframe"))
    document.documentElement.dataset[window.id] = window.contentDocument.documentElement.dataset.measured;
};</script></body></html>"""
# Notes how wide the window is, how wide the page, and what sticks out: what no part of the page that scrolls contains.
MEASURE = """<script>
for (const folded of document.querySelectorAll("details")) folded.open = true;
const root = document.documentElement, width = root.clientWidth;
const end = (node) => Math.max(node.getBoundingClientRect().right,
  node instanceof HTMLElement ? node.getBoundingClientRect().left + node.scrollWidth : 0);
const out = [...document.querySelectorAll("main *")].filter((node) => !node.closest(".scroll, #tip") &&
  end(node) > width + 0.5).map((node) => node.tagName + "." + (node.getAttribute("class") || ""));
root.dataset.measured = JSON.stringify({ width, page: root.scrollWidth, out: out.slice(0, 5) });
</script></body>"""

# Ranks, what the tool plans, and a text that the page must show.
JOBS = [
    (8, ["--model", "Qwen3-0.6B", "--from", "fsdp:shard=4", "--to", "vllm:tp=2,replicas=2", "--open-groups", "2"],
     "[2048, 1024]; dim 0 down, 1 across source: 4 parts, each on 1 rank [0:512, 0:1024] BF16 on rank 0 0 "
     "[512:1024, 0:1024] BF16 on rank 1 1"),
    (8, ["--model", "Qwen3-0.6B", "--from", "fsdp:shard=8", "--to", "vllm:tp=2,replicas=4", "--colocated"], "1 domain"),
    (4096, ["--model", "Kimi-K2-Instruct", "--from", "megatron:tp=8,pp=8,dp=32,ep=32", "--to",
            "vllm:tp=8,ep=32,replicas=64"], "512 domains"),
]


def check(condition, text):
    if not condition:
        raise tool.ToolFailure(text)


def check_cells(data):
    """The cells hold every byte that the report counts."""
    traffic, cells = data["report"]["traffic"], data["details"]["cells"]
    for key, is_inside in (("bytes_network", False), ("bytes_inside_domains", True)):
        total = sum(size for src, dst, size in cells if (src == dst) == is_inside)
        check(total == traffic[key], "the cells hold %d bytes, but %s is %d" % (total, key, traffic[key]))


def expected_cells(details):
    """Neighbouring domains of a side share a cell as soon as there are too many of them."""
    places = []
    for column in (0, 1):
        ids = sorted({cell[column] for cell in details["cells"]})
        per = max(1, -(-len(ids) // MOST_CELLS))
        places.append({domain: i // per for i, domain in enumerate(ids)})
    return len({(places[0][src], places[1][dst]) for src, dst, size in details["cells"] if size > 0})


def open_page(browser, path, folder):
    """The elements of the page once its script has run."""
    # A profile and a home of its own: tests may run at the same time, and with no home at all.
    profile = os.path.join(folder, "profile")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               "--user-data-dir=" + profile, "--dump-dom", "file://" + path]
    status, out, err = tool.run_command(command, env=dict(os.environ, HOME=folder))
    check(status == 0, "%s ended with %d: %s" % (browser, status, err[-2000:]))
    return out


def check_narrow(browser, paths, folder):
    """At NARROW pixels no page is wider than its window. One start of the browser for all of them."""
    windows = []
    for number, path in enumerate(paths):
        with open(path, encoding="utf-8") as file:
            page = file.read()
        check(page.count("</body>") == 1, "%s: the page has one end" % path)
        windows.append(WINDOW % (number, NARROW, html.escape(page.replace("</body>", MEASURE))))
    with open(os.path.join(folder, "narrow.html"), "w", encoding="utf-8") as file:
        file.write(WINDOWS % "".join(windows))
    opening = re.search(r"<html[^>]*>", open_page(browser, file.name, folder)).group(0)
    measured = dict(re.findall(r'data-page(\d+)="([^"]*)"', opening))
    check(len(measured) == len(paths), "%d pages, of which %d could be measured" % (len(paths), len(measured)))
    for number, text in measured.items():
        found = json.loads(html.unescape(text))
        check(0.9 * NARROW < found["width"] <= NARROW, "the window is %d pixels wide" % found["width"])
        check(found["page"] <= found["width"] and not found["out"], "%s: in a window of %d pixels the page is %d wide; "
              "%s sticks out" % (paths[int(number)], found["width"], found["page"], found["out"]))


def check_counts(data, opening):
    """As many cells, kinds of tensors and groups are drawn as the data have."""
    expected = {"cells": expected_cells(data["details"]), "kinds": len(data["layouts"]["kinds"]),
                "groups": len(data["details"]["groups"])}
    for what, number in expected.items():
        check('data-%s="%d"' % (what, number) in opening, "%d %s expected, but %s" % (number, what, opening))


def check_page(browser, path, folder, texts):
    with open(path, encoding="utf-8") as file:
        page = file.read()
    data = json.loads(DATA.search(page).group(1))
    foreign = FOREIGN.search(DATA.sub("", page))
    check(foreign is None, "the page refers to something outside: %r" % (foreign and foreign.group(0)))
    shown = open_page(browser, path, folder)
    opening = re.search(r"<html[^>]*>", shown).group(0)
    check("data-error" not in opening, "the script of the page fails: %s" % html.unescape(opening))
    check('data-ready="1"' in opening, "the script of the page did not come to its end: %s" % opening)
    check_counts(data, opening)
    for word in WORDS:
        check("<dt>%s</dt>" % word in shown, "the page does not explain %r" % word)
    body = html.unescape(re.sub(r"<[^>]*>", " ", DATA.sub("", shown)))
    body = re.sub(r"\s+", " ", re.sub(r"<script.*?</script>", "", body, flags=re.S))
    for text in TITLES + [data["report"]["job"], data["report"]["bound_name"], data["report"]["hash"]] + texts:
        check(text in body, "the page does not show %r" % text)
    for bad in ("NaN", "undefined", "Infinity"):
        check(bad not in shown[shown.index("<main"):shown.index("</main>")], "the page shows %s" % bad)
    return data


def made_up(num_domains, hops, cells, name):
    """The data of a page, in the form that the tool gives them."""
    port = {"max_seconds": 1.0, "mean_seconds": 0.5, "max_over_mean": 2.0}
    report = {"job": name, "machine": "made up", "ranks": 8 * num_domains, "nodes": num_domains, "domains": num_domains,
              "group_order": "any", "open_groups": 3, "estimate_seconds": 2.0, "bound_seconds": 0.0,
              "bound_name": "LB0", "bound_resource": "nothing", "binding_resource": "a link", "bounds": [],
              "link_classes": [],
              "ports_out": port, "ports_in": port, "message_sizes": [], "messages": 0, "window_bytes": 1, "tensors": 1,
              "groups": 1, "atoms": 1, "bundles": 1, "staging_bytes": 0, "staging_budget_bytes": 1, "hash": "0badcafe",
              "peak_memory_bytes": 5, "planning_seconds": 0.0, "estimating_seconds": 1e-6, "reshard": "0",
              "comparison": [], "traffic": {"bytes_network": 1, "bytes_inside_domains": 0, "bytes_forwarded": 0,
                                            "longest_chain": 1}}
    bundle = {"id": 7, "bytes": 1 << 20, "tensors": ["w</script>"], "num_tensors": 30, "sources": [0],
              "destinations": [hop["dst"] for hop in hops], "routes": [{"bytes": 1 << 20, "hops": hops}] * 5}
    details = {"seconds": 2.5, "domains": [{"name": "d%d" % i, "ranks": 8} for i in range(num_domains)], "cells": cells,
               "timeline": {"bucket_seconds": 0.5, "classes": [{"class": "nic out", "utilisation": [0, 1, 0.5, 1, 0]}]},
               "groups": [{"group": 7 * i, "bytes": 5, "start": i / 100, "end": i / 50} for i in range(100)] if hops else [],
               "bundle": bundle if hops else None}
    return {"report": report, "details": details, "layouts": {"left_out": 3, "kinds": made_up_kinds() if hops else []}}


def made_up_kinds():
    """A scalar, tensors that one side lacks or nobody holds, one that is cut along three dims, and names that are long."""
    def kind(name, shape, src, dst):
        return {"kind": name, "tensor": name.replace("*", "0"), "tensors": 7, "shape": shape, "src": src, "dst": dst}

    def side(*boxes):
        return {"dtype": "BF16", "num_boxes": len(boxes) + (300 if len(boxes) > 3 else 0), "boxes": [
            {"begin": begin, "end": end, "ranks": ranks, "num_ranks": 2} for begin, end, ranks in boxes]}
    eighths = side(*[([i, j, k], [i + 1, j + 1, k + 1], "%d-%d" % (i, 1000 + i + 2 * j + 4 * k))
                     for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    long_name = "model." + "a_name_without_any_place_to_break_it" * 4 + ".*.weight"
    return [kind("scalar", [], side(([], [], "0, 5")), None), kind("empty", [0, 4], side(), side()),
            kind(long_name, [2, 2, 2], eighths, side(([0, 0, 0], [2, 2, 2], "0-63")))]


def hop(src, dst, parent):
    return {"src": src, "dst": dst, "parent": parent, "delay": 0, "network": src // 8 != dst // 8,
            "to_staging": dst % 3 == 0}


def made_up_pages():
    """(data, texts that must be seen)"""
    yield made_up(1, [], [], "nothing moves"), ["Nothing moves between ranks", "Nothing crosses the network",
                                                "every group is complete at once"]
    chain = [hop(8 * i, 8 * i + 8, i - 1) for i in range(40)]
    yield made_up(41, chain, [[i, i + 1, 1 << i] for i in range(40)], "a chain of 40"), ["33 more ranks", "rank 56", "groups 0 to 14", "has no such tensor", "also cut along dim 2",
                                        "308 parts, the first 8 drawn", "no rank holds any of it", "3 further kinds are left out"]
    fan = [hop(0, 8 * i, -1) for i in range(1, 21)] + [hop(8, 8 + k, 0) for k in range(1, 8)]
    yield made_up(21, fan, [[0, 20, 5]], "a fan </script><b>"), ["14 more ranks", " 7 ranks in d1", "5 routes"]
    cells = [[src, (src * 7 + k) % 1021, 1 + src] for src in range(1021) for k in range(3)]
    yield made_up(1021, chain, cells, "1021 domains"), ["A cell stands for 4 × 4 domains"]


def check_trace(path, report):
    """The trace is in order, its events lie within the simulated time, and those of one thread do not overlap."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    times = [event["ts"] for event in events]
    check(times == sorted(times), "the events are not in order")
    flows = [event for event in events if event["ph"] == "X"]
    check(flows, "the trace has no flows")
    end = {}
    for event in flows:
        check(event["dur"] >= 0 and event["ts"] + event["dur"] <= report["simulated_seconds"] * 1e6 * (1 + 1e-9) + 1e-3,
              "an event lies outside the simulated time: %s" % event)
        thread = event["pid"], event["tid"]
        check(event["ts"] >= end.get(thread, 0) - 1e-6, "events of thread %s overlap" % (thread,))
        end[thread] = event["ts"] + event["dur"]
    use = [event["args"]["utilisation"] for event in events if event["ph"] == "C"]
    check(use and min(use) >= 0 and max(use) <= 1 + 1e-9, "the use of links is not between 0 and 1")


def pages_of_the_tool(plan, folder):
    for number, (ranks, job, text) in enumerate(JOBS):
        names = [os.path.join(folder, "%d.%s" % (number, kind)) for kind in ("html", "trace", "json")]
        words = [plan, *job, "--cluster", "hgx-h100", "--simulate", "--html", names[0], "--trace", names[1], "--json",
                 names[2]]
        status, out, err = tool.run_command(words)
        check(status == 0, "%s: exit status %d\n%s%s" % (" ".join(words), status, out[-2000:], err[-2000:]))
        with open(names[2], encoding="utf-8") as file:
            report = json.load(file)
        check_trace(names[1], report)
        yield names[0], ["{:,} ranks on".format(ranks), text, report["comparison"][0]["name"]]


def pages_made_up(template, folder):
    with open(template, encoding="utf-8") as file:
        page = file.read()
    check(page.count("@DATA@") == 1, "the template has one place for the data")
    for number, (data, texts) in enumerate(made_up_pages()):
        path = os.path.join(folder, "made_up_%d.html" % number)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page.replace("@DATA@", json.dumps(data).replace("<", "\\u003c")))
        yield path, texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True)
    parser.add_argument("--template", required=True, help="perf/html/page.html")
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("skipped: none of %s is installed" % ", ".join(BROWSERS))
        return SKIPPED
    folder = tool.scratch("html")
    pages = []
    try:
        for source in (pages_made_up(args.template, folder), pages_of_the_tool(args.plan, folder)):
            for path, texts in source:
                try:
                    data = check_page(browser, path, folder, texts)
                    if data["report"]["machine"] != "made up":
                        check_cells(data)
                except tool.ToolFailure as error:
                    raise tool.ToolFailure("%s: %s" % (path, error)) from error
                pages.append(path)
        check_narrow(browser, pages, folder)
    except tool.ToolFailure as error:
        print("FAILED  %s" % error)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    print("%d pages right" % len(pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
