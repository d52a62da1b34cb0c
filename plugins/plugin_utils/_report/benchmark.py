# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured on a fleet's hosts, as one document and as a table. Pure functions. PRIVATE to kataops.aio."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._report.terminal import fit, one_line

SCHEMA_VERSION = 1
FILE_NAME = "kata-aio-benchmark.json"

#: The keys of one result of the module qemu_bench; Ansible's own (changed, invocation, item, ...) are left out.
KEPT = ("binary", "version", "storage", "size", "request_bytes", "in_flight", "seconds", "rounds", "reason", "engines")

Data = t.Dict[str, t.Any]


def benchmark_report(registered: t.Mapping[str, Data | None], lost: t.Collection[str], now: datetime.datetime) -> Data:
    """All results as one document.

    :arg registered: by host what Ansible registered of qemu_bench, a loop's results or one; None where it did not come to it.
    :arg lost: hosts that Ansible no longer has.
    :arg now: the time of the report, UTC.
    """
    hosts = []
    for host, found in registered.items():
        results = found.get("results", [found]) if found else []
        benchmarks = [{key: result.get(key) for key in KEPT} for result in results if "engines" in result]
        hosts.append({"host": host, "reason": _reason(found, results, benchmarks, host in lost), "benchmarks": benchmarks})
    return {"schema_version": SCHEMA_VERSION, "generated_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "hosts": hosts}


def _reason(found: Data | None, results: list[Data], benchmarks: list[Data], lost: bool) -> str | None:
    """Why a host has no result, or not all of them."""
    failed = [result.get("msg") or "it failed without a word" for result in results if result.get("failed")]
    reasons = failed + [one["reason"] for one in benchmarks if one["reason"]]
    if reasons:
        return "; ".join(reasons)
    if benchmarks:
        return None
    if lost:
        return "it failed or was lost before anything was measured"
    if found and found.get("skipped"):
        return "nothing is measured in check mode"
    return "no QEMU of Kata's that answers was found; audit says why"


#: Columns: heading, width, right-aligned.
_COLUMNS = (("engine", 10), ("write MB/s", 17), ("CPU µs/request", 17), ("read MB/s", 17), ("CPU µs/request", 17))


def table_lines(report: Data, max_rows: int = 40) -> list[str]:
    """The document as lines for a terminal of 80 columns or more; ``max_rows`` hosts are told, those without a result first."""
    hosts = sorted(report["hosts"], key=lambda entry: entry["reason"] is None)
    lines = ["Requests of 64 KiB, cache.direct=on; medians; in brackets the multiple of threads in the same run."]
    for entry in hosts[:max_rows]:
        lines.append("")
        for one in entry["benchmarks"]:
            if not one["engines"]:
                continue
            storage = one["storage"]
            lines.append(one_line("%s: %s (%s), %s (%s)" % (entry["host"], one["binary"], one["version"], storage["path"], storage["filesystem"])))
            lines.append("  " + "".join(fit(title, width) for title, width in _COLUMNS).rstrip())
            lines += ["  " + row for row in _rows(one["engines"])]
        if entry["reason"]:
            lines.append(one_line("%s: %s" % (entry["host"], entry["reason"])))
    if len(hosts) > max_rows:
        lines += ["", "… and %d more hosts; the file has all of them" % (len(hosts) - max_rows)]
    return lines


def _rows(engines: Data) -> list[str]:
    rows = []
    for name, engine in engines.items():
        if not engine["ran"]:
            rows.append(fit(name, 10) + "- %s" % one_line(engine["reason"]))
            continue
        cells = [name]
        for direction in ("write", "read"):
            one = engine[direction]
            cells.append(_with_ratio("%.0f" % (one["bytes_per_second"] / 1e6), one["throughput_ratio"]))
            cells.append(_with_ratio("%.1f" % one["cpu_us_per_request"], one["cpu_ratio"]))
        rows.append("".join(fit(cell, width) for cell, (_title, width) in zip(cells, _COLUMNS)).rstrip())
        if engine["reason"]:
            rows.append(" " * 10 + "↳ %s" % one_line(engine["reason"]))
    return rows


def _with_ratio(number: str, ratio: float | None) -> str:
    return number if ratio is None else "%s (%.2f)" % (number, ratio)
