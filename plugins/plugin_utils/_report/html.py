# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file that needs nothing else. PRIVATE to kataops.aio.

``_report/page/`` holds the page: ``page.html.j2`` (a Jinja2 template, autoescaped; the summary), ``page.css`` and ``page.js`` (the fleet's table and
each host's detail, drawn from the report's JSON, which the page carries as a data block). A Content-Security-Policy allows exactly that style sheet
and that script by their digests and nothing from elsewhere, so a host's words could not run even if an escape were missed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import shlex

import jinja2
from markupsafe import Markup

PAGE = pathlib.Path(__file__).with_name("page")

# Words for people; the machine words stay in JSON, CSV and metrics.
VERDICT_WORDS = {"broken": "Broken", "degraded": "Degraded", "unknown": "Unknown", "ok": "OK", "not_applicable": "No Kata"}
OUTCOME_WORDS = {
    "failed": "Failed",
    "rolled_back": "Rolled back",
    "unreachable": "Unreachable",
    "untouched": "Untouched",
    "would_change": "Would change",
    "degraded": "Fell back",
    "partly_repaired": "Partly repaired",
    "repaired": "Repaired",
    "converged": "Nothing to do",
    "not_applicable": "No Kata",
}


def render_html(report):
    """The page for a report of :func:`_report.report_model`, as text."""
    style = (PAGE / "page.css").read_text("utf-8")
    script = (PAGE / "page.js").read_text("utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(PAGE)), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(seconds=seconds_text, bytes=bytes_text)
    hosts, pool = pooled(report["hosts"])
    data = {"hosts": hosts, "pool": pool, "verdicts": VERDICT_WORDS, "outcomes": OUTCOME_WORDS}
    return environment.get_template("page.html.j2").render(
        report=report,
        verdict_words=VERDICT_WORDS,
        outcome_words=OUTCOME_WORDS,
        headline=headline(report),
        limit=shlex.quote(report["failing"]["limit"] or ""),
        bars=bars(report),
        style=Markup(style),  # nosec B704  # our own file
        script=Markup(script),  # nosec B704  # our own file
        style_digest=_digest(style),
        script_digest=_digest(script),
        data=Markup(embedded_json(data)),  # nosec B704  # escaped for a script element
    )


def _digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def embedded_json(data):
    """Compact JSON that cannot end its ``<script>`` element nor open a comment in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, "\\u%04x" % ord(char))
    return text


_POOLED = ("runtimes", "qemus", "libaio", "storage", "findings")


def pooled(hosts):
    """The hosts with the parts that many of them share replaced by an index into a pool: C((hosts, pool)).

    Hosts of a fleet are alike, evidence included; told once each, the page of a thousand hosts is a fraction of its size. ``page.js`` puts them back.
    """
    pool, places = [], {}

    def place(value):
        key = json.dumps(value)
        if key not in places:
            places[key] = len(pool)
            pool.append(value)
        return places[key]

    def state(full):
        return None if full is None else {key: place(value) if key in _POOLED else value for key, value in full.items()}

    return [dict(entry, before=state(entry["before"]), after=state(entry["after"]), steps=place(entry["steps"])) for entry in hosts], pool


def headline(report):
    """The state of the fleet in one sentence: C({text, tone})."""
    verdicts, hosts = report["totals"]["verdicts"], report["totals"]["hosts"]
    judged = hosts - verdicts["not_applicable"]
    if not hosts:
        return {"text": "No hosts were looked at", "tone": "unknown"}
    if not judged:
        return {"text": "None of the hosts has Kata Containers", "tone": "not_applicable"}
    bad = [(name, verdicts[name]) for name in ("broken", "degraded", "unknown") if verdicts[name]]
    if not bad:
        return {"text": "Block I/O works as configured on %s" % ("the host" if judged == 1 else "all %s hosts" % format(judged, ",")), "tone": "ok"}
    parts = ["%s %s" % (format(count, ","), name) for name, count in bad]
    words = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return {"text": "%s of %s host%s" % (words, format(judged, ","), "s" if judged != 1 else ""), "tone": bad[0][0]}


def bars(report):
    """Stacked bars of verdicts, best first, as C([{label, parts: [{name, count, x, width}]}]); x and width are per cent of the hosts."""
    totals = report["totals"]
    rows = [("Before", totals["verdicts_before"]), ("After", totals["verdicts"])] if totals["compared"] else [("Now", totals["verdicts"])]
    result = []
    for label, counts in rows:
        x, parts = 0.0, []
        for name in ("ok", "degraded", "broken", "unknown", "not_applicable"):
            if counts[name]:
                width = 100.0 * counts[name] / totals["hosts"]
                parts.append({"name": name, "count": counts[name], "x": round(x, 3), "width": round(width, 3)})
                x += width
        result.append({"label": label, "parts": parts})
    return result


def seconds_text(value):
    """C(41 s), C(3 min 20 s), C(2 h 5 min); a dash where unknown."""
    if value is None:
        return "–"
    if value < 10:
        return "%.1f s" % value
    if value < 120:
        return "%.0f s" % value
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return "%d min %d s" % (minutes, seconds)
    return "%d h %d min" % divmod(minutes, 60)


def bytes_text(value):
    """Bytes with a binary unit; a dash where unknown."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            return "%.0f %s" % (amount, unit) if unit == "B" or amount >= 100 else "%.1f %s" % (amount, unit)
        amount /= 1024
