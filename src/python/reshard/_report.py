# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A plan's report as text, in the words of the tool reshard_plan, and for a notebook. From the JSON report alone."""
from __future__ import annotations

import html
from typing import Any

Report = dict[str, Any]


def size(value: float) -> str:
    """Bytes with a binary unit."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    unit = 0
    while value >= 1024 and unit + 1 < len(units):
        value, unit = value / 1024, unit + 1
    return f"{value:.{2 if unit else 0}f} {units[unit]}"


def duration(value: float) -> str:
    """Seconds, milliseconds or microseconds in four digits."""
    units, unit = ["s", "ms", "us"], 0
    while value != 0 and value < 0.9995 and unit + 1 < len(units):  # what rounds to 1.000 stays in its unit
        value, unit = value * 1000, unit + 1
    decimals = 3 - sum(value >= limit for limit in (9.9995, 99.995, 999.95))
    return f"{value:.{decimals}f} {units[unit]}"


def ratio(value: float, of: float) -> str:
    return f"{value / of:.3f}" if of > 0 else "-"


def line(label: str, value: Any) -> str:
    return f"  {label:<22} {value}"


def row(label: str, second: str, third: str, rest: str) -> str:
    return f"  {label:<22} {second:>12} {third:>12}  {rest}".rstrip()


def side_line(label: str, side: Report) -> str:
    return (f"  {label:<22} {size(side['max_bytes']):>12} {size(side['mean_bytes']):>12} {side['max_over_mean']:>9.3f} "
            f"{size(side['bound_bytes']):>12} {side['ranks']:>8} {side['used']:>8}")


def ranks_lines(report: Report) -> list[str]:
    """What each direction asks of the ranks."""
    return [line("ranks", report["ranks"]),
            line("tensors", f"{report['tensors']} in {report['groups']} groups"),
            line("bytes across ranks", size(report["bytes_crossed"])),
            line("bytes within ranks", size(report["bytes_local"])), "",
            f"  {'bytes per rank':<22} {'max':>12} {'mean':>12} {'max/mean':>9} {'lower bound':>12} {'ranks':>8} {'used':>8}",
            side_line("sent", report["senders"]), side_line("received", report["receivers"]),
            line("busiest rank", size(report["bound_bytes"]) + " cannot be avoided, whatever the plan")]


def quantised_lines(entries: list[Report]) -> list[str]:
    """Where 8-bit floats are made, or are made something else again."""
    lines = ["", "  converted"]
    for entry in entries:
        scales = "given" if entry["given"] else "computed"
        lines += [f"    {entry['pattern']} ({entry['tensors']}): {entry['from']} to {entry['to']}, scales "
                  f"{entry['scales']} {scales}, at the {entry['place']}:", f"      {entry['why']}"]
    crossed, as_bf16 = (sum(entry[key] for entry in entries) for key in ("bytes_crossed", "bytes_crossed_as_bf16"))
    if as_bf16:
        lines.append(line("  across ranks", f"{size(crossed)} with scales; {crossed / as_bf16:.3f} of the {size(as_bf16)} "
                          "that BF16 is"))
    return lines


def machine_lines(report: Report) -> list[str]:
    """An estimate never stands alone: its lower bounds stand beside it, and what limits them."""
    estimate, bound = report["estimate_seconds"], report["bound_seconds"]
    lines = ["", row("time", "takes", "/ bound", "set by"),
             row("estimate", duration(estimate), ratio(estimate, bound), report["binding_resource"]),
             row("  of it to fill chains", duration(report["fill_seconds"]), "", "")]
    if "multicast_seconds" in report:
        lines.append(row("  with multicast", duration(report["multicast_seconds"]), "",
                         "if the switch did it; nothing runs so yet"))
    if "simulated_seconds" in report:
        simulated = report["simulated_seconds"]
        lines.append(row("simulated", duration(simulated), ratio(simulated, bound),
                         f"{ratio(simulated, estimate)} of the estimate"))
    lines += [row("bound", duration(bound), "", f"{report['bound_name']}: {report['bound_resource']}"),
              "", row("lower bounds", "at least", "/ largest", "because of")]
    for one in report["bounds"]:
        known = one["seconds"] > 0
        lines.append(row(one["name"], duration(one["seconds"]) if known else "-", ratio(one["seconds"], bound),
                         one["resource"]) if known else row(one["name"], "-", "-", ""))
    lines += ["", row("link class", "bytes", "links used", "busiest")]
    lines += [row(kind["class"], size(kind["bytes"]), str(kind["used"]),
                  f"{duration(kind['busiest_seconds'])}: {kind['busiest']}") for kind in report["link_classes"]]
    return lines + traffic_lines(report) + comparison_lines(report)


def traffic_lines(report: Report) -> list[str]:
    traffic = report["traffic"]
    lines = ["", row("path", "bytes", "", ""), row("inside domains", size(traffic["bytes_inside_domains"]), "", ""),
             row("over the network", size(traffic["bytes_network"]), "",
                 f"{size(traffic['bytes_from_sources'])} from sources, {size(traffic['bytes_forwarded'])} forwarded in "
                 f"chains of up to {traffic['longest_chain']}"),
             row("through staging", size(traffic["bytes_through_staging"]), "", ""),
             "", row("network ports", "busiest", "mean", "max / mean")]
    for label, key in (("of sources, out", "ports_out"), ("of receivers, in", "ports_in")):
        side = report[key]
        lines.append(row(label, duration(side["max_seconds"]), duration(side["mean_seconds"]), f"{side['max_over_mean']:.3f}"))
    return lines


def comparison_lines(report: Report) -> list[str]:
    if "comparison" not in report:
        return []

    def way(name: str, network: float, takes: float, times: float, resource: str) -> str:
        return f"  {name:<31} {size(network):>12} {duration(takes):>10} {times:>9.2f}  {resource}"

    lines = ["", f"  {'other ways':<31} {'network':>12} {'takes':>10} {'times':>9}  set by",
             way("this plan", report["traffic"]["bytes_network"], report["estimate_seconds"], 1.0,
                 report["binding_resource"])]
    return lines + [way(of["name"], of["bytes_network"], of["seconds"], of["over_estimate"], of["resource"])
                    for of in report["comparison"]]


def report_text(report: Report) -> str:
    """The report for people."""
    has_machine = "estimate_seconds" in report
    lines = []
    if has_machine:
        opened = report["open_groups"] or "any number"
        lines.append(line("machine", f"{report['machine']}: {report['nodes']} nodes, {report['domains']} domains; group order "
                          f"{report['group_order']}, {opened} open at once"))
    lines += ranks_lines(report)
    lines += quantised_lines(report["quantised"]) if "quantised" in report else []
    lines += machine_lines(report) if has_machine else []
    lines += ["", line("atoms, bundles", f"{report['atoms']}, {report['bundles']}"), line("messages", report["messages"])]
    lines += [f"    up to {size(bucket['up_to_bytes']):>12} {bucket['count']:>12}" for bucket in report["message_sizes"]]
    lines += [line("staging, windows", f"{size(report['staging_bytes'])} of {size(report['staging_budget_bytes'])}, "
                   f"{size(report['window_bytes'])} each"), "",
              line("planning took", duration(report["planning_seconds"]))]
    if "replanned" in report:
        changed = report["replanned"]
        lines.append(line("changed by the loss", f"{changed['bundles_changed']} of {changed['bundles']} bundles, "
                          f"{size(changed['bytes_changed'])} of {size(changed['bytes'])}"))
    return "\n".join(lines + [line("plan hash", report["hash"])])


# ----------------------------------------------------------------------------------------------------------- notebooks

def bar(share: float) -> str:
    """A bar of a share of the widest, in the notebook's own colour of text."""
    return (f'<div style="background:currentColor;opacity:.35;height:.7em;width:{max(0.0, min(1.0, share)) * 12:.2f}em">'
            "</div>")


def report_html(report: Report) -> str:
    """The report for a notebook: what moves, the busiest ranks beside what cannot be avoided, and all of it to unfold."""
    figures = [("ranks", report["ranks"], None), ("tensors", f"{report['tensors']} in {report['groups']} groups", None)]
    widest = max(report["senders"]["max_bytes"], report["receivers"]["max_bytes"], report["bound_bytes"], 1)
    for label, value in (("across ranks", report["bytes_crossed"]), ("within ranks", report["bytes_local"])):
        figures.append((label, size(value), value / max(report["bytes_crossed"] + report["bytes_local"], 1)))
    for label, value in (("busiest sender", report["senders"]["max_bytes"]),
                         ("busiest receiver", report["receivers"]["max_bytes"]), ("cannot be avoided", report["bound_bytes"])):
        figures.append((label, size(value), value / widest))
    if "estimate_seconds" in report:
        longest = max(report["estimate_seconds"], report["bound_seconds"]) or 1
        for label, key in (("estimate", "estimate_seconds"), ("lower bound", "bound_seconds")):
            figures.append((label, duration(report[key]), report[key] / longest))
    rows = "".join(f"<tr><th style='text-align:left'>{label}</th><td style='text-align:right'>{html.escape(str(value))}</td>"
                   f"<td style='text-align:left'>{'' if share is None else bar(share)}</td></tr>"
                   for label, value, share in figures)
    return (f"<div><b>reshard plan</b> <code>{html.escape(report['hash'])}</code><table>{rows}</table>"
            f"<details><summary>report</summary><pre>{html.escape(report_text(report))}</pre></details></div>")
