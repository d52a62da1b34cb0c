# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report for other programs: JSON, CSV, JUnit XML and Prometheus text. PRIVATE to kataops.aio.

Each renderer takes a report of :func:`_report.report_model` and returns text. Words from hosts are escaped by each format's own rules; what is not
known is left out or empty, never a made-up number.
"""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET  # nosec B405  # it writes only
from datetime import datetime

from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import OUTCOMES, is_failing
from ansible_collections.kataops.aio.plugins.plugin_utils._report.state import SANDBOX_COUNTS, VERDICTS

CSV_COLUMNS = (
    "host",
    "verdict_before",
    "verdict",
    "outcome",
    "phase_reached",
    "strategy",
    "wave",
    "seconds",
    "bytes_sent",
    "runtime",
    "handlers",
    "kind",
    "release",
    "runtime_verdict",
    "engine_asked",
    "engine_effective",
    "qemu_path",
    "qemu_version",
    "qemu_linkage",
    "native",
    "io_uring",
    "findings",
    "contexts_free",
    "aio_max_nr",
    "sandboxes",
    "silent_fallbacks",
    "error",
)

# XML 1.0 has no way to write these characters, not even as references.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def latest(entry):
    """The state that counts: after the change, else before; None where nothing is known."""
    return entry["after"] or entry["before"]


def render_json(report):
    """The report as JSON text, indented."""
    return json.dumps(report, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


# --- CSV -----------------------------------------------------------------------------------------------------------------------------------------


def csv_cell(value):
    """A cell's text. A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP's advice on CSV injection)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        value = " ".join(str(item) for item in value)
    text = str(value).replace("\x00", "\ufffd")
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def render_csv(report):
    """One row for each host and runtime (RFC 4180); a host without runtimes has one row with those columns empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for entry in report["hosts"]:
        state = latest(entry)
        row = {key: entry[key] for key in ("host", "verdict_before", "verdict", "outcome", "phase_reached", "strategy", "wave", "seconds", "bytes_sent")}
        row["error"] = entry["error"]["message"] if entry["error"] else entry["reason"]
        if state:
            row.update(contexts_free=state["kernel"]["contexts_free"], aio_max_nr=state["kernel"]["aio_max_nr"])
            row.update(sandboxes=state["sandboxes"]["total"], silent_fallbacks=state["sandboxes"]["silent_fallbacks"])
        runtimes = state["runtimes"] if state else []
        for runtime in runtimes or [None]:
            full = dict(row, findings=_finding_ids(state, runtime), **_csv_runtime(runtime))
            writer.writerow([csv_cell(full.get(column)) for column in CSV_COLUMNS])
    return out.getvalue()


def _csv_runtime(runtime):
    if runtime is None:
        return {}
    engines = runtime["qemu"]["engines"] or {}
    return {
        "runtime": runtime["id"],
        "handlers": runtime["handlers"],
        "kind": runtime["kind"],
        "release": runtime["release"],
        "runtime_verdict": runtime["verdict"],
        "engine_asked": runtime["engine"]["asked"],
        "engine_effective": runtime["engine"]["effective"],
        "qemu_path": runtime["qemu"]["path"],
        "qemu_version": runtime["qemu"]["version"],
        "qemu_linkage": runtime["qemu"]["linkage"],
        "native": engines.get("native"),
        "io_uring": engines.get("io_uring"),
    }


def _finding_ids(state, runtime):
    """The ids of a runtime's findings and of those that concern its whole host, without repetition."""
    if state is None:
        return []
    wanted = (None,) if runtime is None else (None, runtime["id"])
    return list(dict.fromkeys(item["id"] for item in state["findings"] if item["runtime"] in wanted))


# --- JUnit XML -----------------------------------------------------------------------------------------------------------------------------------


def render_junit(report):
    """A test suite for the fleet, a test case for each host and runtime.

    ``failure``: the runtime counts as failing under the report's policy (under ``never``: as under ``broken``); ``error``: nothing is known of the
    host, or the run failed on it; ``skipped``: the host has no Kata. The classname is the host, so that CI systems group by host.
    """
    policy = report["failing"]["policy"]
    policy = "broken" if policy == "never" else policy
    suite = ET.Element("testsuite", name="kataops.aio %s" % (report["run"]["command"] or "report"), timestamp=report["generated_at"].rstrip("Z"))
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for entry in report["hosts"]:
        state = latest(entry)
        runtimes = state["runtimes"] if state else []
        # A failed change is the host's, not that of one runtime: it gets a case of its own.
        if entry["error"] or state is None:
            case = _case(suite, counts, entry, "change" if entry["error"] else "observe", entry["seconds"])
            counts["errors"] += 1
            message = entry["error"]["message"] if entry["error"] else entry["reason"]
            _child(case, "error", _failed_change(entry), entry["outcome"] or "unknown", message)
        for runtime in runtimes:
            own = [item for item in state["findings"] if item["runtime"] in (None, runtime["id"])]
            case = _case(suite, counts, entry, " ".join(runtime["handlers"]) or runtime["id"] or "runtime", None)
            if is_failing({"outcome": None, "verdict": runtime["verdict"]}, policy):
                counts["failures"] += 1
                first = own[0] if own else {"id": runtime["verdict"], "title": None}
                _child(case, "failure", _findings_text(runtime, own), runtime["verdict"], " ".join(filter(None, [first["id"], first["title"]])))
            elif runtime["verdict"] == "not_applicable":
                counts["skipped"] += 1
                _child(case, "skipped", None, None, "the hypervisor is not QEMU")
            elif own:
                ET.SubElement(case, "system-out").text = _xml(_findings_text(runtime, own))
        if state and not runtimes and not entry["error"]:
            case = _case(suite, counts, entry, "kata", None)
            counts["skipped"] += 1
            _child(case, "skipped", None, None, "no Kata runtime was found")
    for key, value in counts.items():
        suite.set(key, str(value))
    suite.set("time", "%.3f" % (report["run"]["seconds"] or 0))
    root = ET.Element("testsuites", {**{key: str(value) for key, value in counts.items()}, "name": "kataops.aio"})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite, counts, entry, name, seconds):
    counts["tests"] += 1
    return ET.SubElement(suite, "testcase", classname=_xml(entry["host"]), name=_xml(name), time="%.3f" % (seconds or 0))


def _child(case, tag, text, kind, message):
    attributes = {"message": _xml(message or "")}
    if kind:
        attributes["type"] = _xml(kind)
    ET.SubElement(case, tag, attributes).text = _xml(text) if text else None


def _xml(text):
    return _NOT_XML.sub("\ufffd", text)


def _failed_change(entry):
    error = entry["error"] or {"phase": None, "message": entry["reason"], "undone": None, "next": None}
    return "\n".join("%s: %s" % (key, error[key]) for key in ("phase", "message", "undone", "next") if error[key])


def _findings_text(runtime, findings):
    lines = ["engine asked: %s, gets: %s, QEMU: %s" % (runtime["engine"]["asked"], runtime["engine"]["effective"], runtime["qemu"]["path"])]
    for item in findings:
        lines.append("%s %s: %s" % (item["id"], item["severity"], item["title"]))
        lines += ["  %s" % item[key] for key in ("detail", "remedy") if item[key]]
        lines += ["  %s → %s" % (evidence["asked"], evidence["answered"]) for evidence in item["evidence"]]
    return "\n".join(lines)


# --- Prometheus ----------------------------------------------------------------------------------------------------------------------------------


def render_prometheus(report):
    """Metrics in the text format of Prometheus, for node_exporter's text-file collector. Values that are not known have no sample."""
    totals, hosts = report["totals"], report["hosts"]
    states = [(entry["host"], latest(entry)) for entry in hosts if latest(entry)]
    stamp = datetime.strptime(report["generated_at"], "%Y-%m-%dT%H:%M:%SZ")
    info = {"version": report["collection"]["version"] or "", "command": report["run"]["command"] or ""}
    families = [
        ("report_info", "The report that these metrics are of.", [(info, 1)]),
        ("report_timestamp_seconds", "When the report was made, Unix time.", [({}, int((stamp - datetime(1970, 1, 1)).total_seconds()))]),
        ("hosts", "Hosts by verdict.", [({"verdict": name}, totals["verdicts"][name]) for name in VERDICTS]),
        ("outcomes", "Hosts by the outcome of the run.", [({"outcome": name}, totals["outcomes"][name]) for name in OUTCOMES]),
        ("host_verdict", "1 for the verdict that the host has, 0 for the others.", _state_set(hosts)),
        ("runtime_info", "A Kata runtime of a host with what it asks for and gets.", _runtime_samples(states)),
        ("findings", "Findings of a host by rule.", _finding_samples(states)),
        ("aio_events_max", "fs.aio-max-nr of the host.", _kernel_samples(states, "aio_max_nr")),
        ("aio_events_used", "fs.aio-nr of the host.", _kernel_samples(states, "aio_nr")),
        ("aio_contexts_free", "AIO contexts of QEMU that still fit under fs.aio-max-nr.", _kernel_samples(states, "contexts_free")),
        ("sandboxes", "Running sandboxes by the engine that they really use.", _sandbox_samples(states)),
        (
            "sandboxes_fell_back",
            "Running sandboxes that use threads though another engine was asked for.",
            [({"host": host}, state["sandboxes"]["silent_fallbacks"]) for host, state in states],
        ),
    ]
    lines = []
    for name, text, samples in families:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += ["# HELP kata_aio_%s %s" % (name, text), "# TYPE kata_aio_%s gauge" % name]
            lines += ["kata_aio_%s%s %s" % (name, _labels(labels), value) for labels, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels):
    """Label names are ours; values are escaped by the text format's rules: backslash, double quote, line feed."""
    if not labels:
        return ""
    quoted = ((key, str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')) for key, value in labels.items())
    return "{%s}" % ",".join('%s="%s"' % pair for pair in quoted)


def _state_set(hosts):
    return [({"host": entry["host"], "verdict": name}, int(entry["verdict"] == name)) for entry in hosts for name in VERDICTS]


def _runtime_samples(states):
    for host, state in states:
        for runtime in state["runtimes"]:
            labels = {
                "host": host,
                "runtime": runtime["id"],
                "handlers": ",".join(runtime["handlers"]),
                "release": runtime["release"],
                "verdict": runtime["verdict"],
                "asked": runtime["engine"]["asked"],
                "effective": runtime["engine"]["effective"],
                "qemu_version": runtime["qemu"]["version"],
            }
            yield {key: "" if value is None else value for key, value in labels.items()}, 1


def _finding_samples(states):
    for host, state in states:
        counts = {}
        for item in state["findings"]:
            counts[item["id"], item["severity"]] = counts.get((item["id"], item["severity"]), 0) + 1
        for (rule, severity), count in counts.items():
            yield {"host": host, "id": rule, "severity": severity}, count


def _kernel_samples(states, key):
    return [({"host": host}, state["kernel"][key]) for host, state in states]


def _sandbox_samples(states):
    for host, state in states:
        for engine in SANDBOX_COUNTS:
            yield {"host": host, "engine": engine}, state["sandboxes"]["by_engine"][engine]
