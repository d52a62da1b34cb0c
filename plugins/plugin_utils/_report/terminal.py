# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report for people without a browser: a table for the terminal, and Markdown. PRIVATE to kataops.aio."""

from __future__ import annotations

import re
import shlex
import unicodedata

from ansible_collections.kataops.aio.plugins.plugin_utils._report.html import OUTCOME_WORDS, VERDICT_WORDS, bytes_text, headline, seconds_text
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import OUTCOMES, engine_text
from ansible_collections.kataops.aio.plugins.plugin_utils._report.state import VERDICTS

MIN_WIDTH = 80
KINDS = {"go": "Go", "rs": "runtime-rs"}

# What a terminal would obey, or what would break a line: C0 and C1 controls, bidirectional overrides, line separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


# --- the terminal --------------------------------------------------------------------------------------------------------------------------------


def one_line(value):
    """A host's words on one line, without control characters, so that they can neither break a table nor steer a terminal."""
    return _CONTROL.sub(" ", str(value)).strip()


def text_width(text):
    """Columns that a text takes in a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def fit(text, width):
    """The text cut to ``width`` columns, with an ellipsis where something was cut, and filled with spaces."""
    if text_width(text) > width:
        while text and text_width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - text_width(text))


def _cells(entry):
    summary = entry["summary"]
    verdict = VERDICT_WORDS[entry["verdict"]].lower()
    if entry["after"] and entry["verdict_before"] != entry["verdict"]:
        verdict = "%s → %s" % (VERDICT_WORDS[entry["verdict_before"]].lower(), verdict)
    kata = " ".join(filter(None, [summary["kata_release"], {"rs": "rs"}.get(summary["runtime"])]))
    if summary["runtimes"] and summary["runtimes"] > 1:
        kata += " +%d" % (summary["runtimes"] - 1)
    findings = summary["findings"]
    return {
        "Host": entry["host"],
        "Verdict": verdict,
        "Engine": engine_text(summary["engine_asked"], summary["engine_effective"]) or "-",
        "Kata": kata or "-",
        "QEMU": summary["qemu_version"] or "-",
        "Findings": " ".join(findings[:2]) + (" +%d" % (len(findings) - 2) if len(findings) > 2 else "") or "-",
        "Outcome": OUTCOME_WORDS[entry["outcome"]].lower() if entry["outcome"] else "-",
        "Strategy": (entry["strategy"] or "-").replace("_", " "),
        "Room": "-" if summary["contexts_free"] is None else str(summary["contexts_free"]),
    }


# What stays when the terminal is narrow: dropped from the end until the rest fits. The host's column then takes or gives what is left.
_PRIORITY = ("Host", "Verdict", "Engine", "Outcome", "Findings", "Strategy", "QEMU", "Kata", "Room")
_ORDER = ("Host", "Verdict", "Engine", "Kata", "QEMU", "Findings", "Outcome", "Strategy", "Room")
_MAX = {"Host": 40, "Engine": 18, "Kata": 14, "QEMU": 12, "Findings": 20}
_MIN_HOST = 16


def table_lines(report, width=MIN_WIDTH, max_rows=40):
    """The fleet as lines of at most ``width`` columns, worst hosts first: ``[(tone, line)]``.

    ``tone`` is a verdict (or None) by which the caller may colour the line. At most ``max_rows`` hosts are told; the last line counts the rest.
    """
    width = max(width, MIN_WIDTH)
    order = {name: number for number, name in enumerate(VERDICTS)}
    outcomes = {name: number for number, name in enumerate(OUTCOMES)}
    entries = sorted(report["hosts"], key=lambda entry: (order[entry["verdict"]], outcomes.get(entry["outcome"], len(outcomes))))
    shown = entries[:max_rows]
    rows = [{key: one_line(value) for key, value in _cells(entry).items()} for entry in shown]
    widths = _column_widths(rows, width, bool(sum(report["totals"]["outcomes"].values())))
    columns = [name for name in _ORDER if name in widths]

    def line(cells):
        return "  ".join(fit(cells[name], widths[name]) for name in columns).rstrip()

    lines = [(None, line({name: name for name in columns})), (None, "  ".join("-" * widths[name] for name in columns))]
    lines += [(entry["verdict"], line(row)) for entry, row in zip(shown, rows)]
    if len(entries) > len(shown):
        lines.append((None, "… and %d more, none worse" % (len(entries) - len(shown))))
    return lines + [(None, "")] + [(None, text) for text in summary_lines(report, width)]


def _column_widths(rows, width, told):
    """The columns that fit, with their widths."""
    columns = [name for name in _PRIORITY if told or name != "Outcome"]
    columns = [name for name in columns if name in ("Host", "Verdict", "Engine") or any(row[name] != "-" for row in rows)]
    widths = {name: min(max([len(name)] + [text_width(row[name]) for row in rows]), _MAX.get(name, width)) for name in columns}
    least = min(widths["Host"], _MIN_HOST) - widths["Host"]
    while len(columns) > 3 and sum(widths.values()) + least + 2 * (len(columns) - 1) > width:
        del widths[columns.pop()]
    spare = width - sum(widths.values()) - 2 * (len(columns) - 1)
    if spare < 0:
        widths["Host"] += spare
    return widths


def summary_lines(report, width=MIN_WIDTH):
    """The totals and the findings with their remedies, as lines of at most ``width`` columns."""
    totals = report["totals"]
    lines = _wrap(headline(report)["text"] + ".", width)
    if totals["compared"]:
        before = ", ".join("%d %s" % (count, name.replace("_", " ")) for name, count in totals["verdicts_before"].items() if count)
        after = ", ".join("%d %s" % (count, name.replace("_", " ")) for name, count in totals["verdicts"].items() if count)
        lines += _wrap("Before: %s." % before, width) + _wrap("After:  %s." % after, width)
    outcomes = ", ".join("%d %s" % (count, OUTCOME_WORDS[name].lower()) for name, count in totals["outcomes"].items() if count)
    if outcomes:
        lines += _wrap("Outcome: %s." % outcomes, width)
    if report["run"]["check_mode"]:
        lines += _wrap("Check mode: nothing was changed.", width)
    lines += _error_lines(report, width)
    others = [entry for entry in report["hosts"] if entry["strategies_tried"]]
    for entry in others[:5]:
        for one in entry["strategies_tried"]:
            lines += _wrap("%s: %s failed: %s" % (entry["host"], one["with"] or one["strategy"], one["reason"]), width, "  ")
    if len(others) > 5:
        lines.append("%d more hosts tried several strategies; the report has the reasons." % (len(others) - 5))
    boxes = totals["sandboxes"]
    if boxes["silent_fallbacks"]:
        lines += _wrap("%d of %d running sandboxes use threads unasked." % (boxes["silent_fallbacks"], boxes["total"]), width)
    left_out = sum(rule["occurrences"] for rule in report["findings"] if rule["id"] == "KAIO016")
    if left_out:
        lines += _wrap("%d runtime%s left out by kata_aio_exclude; the report names them." % (left_out, " is" if left_out == 1 else "s are"), width)
    serious = [rule for rule in report["findings"] if rule["severity"] != "info"]
    for rule in serious[:5]:
        lines.append("")
        count = "%d host%s" % (len(rule["hosts"]), "" if len(rule["hosts"]) == 1 else "s")
        lines += _wrap("%s  %s (%s)" % (rule["id"], rule["title"], count), width, "         ")
        for place in _places(report, rule["id"]):
            lines += _wrap("         " + place, width, "           ")
        if rule["remedy"]:
            lines += _wrap("         Remedy: %s" % rule["remedy"], width, "         ")
    if len(serious) > 5:
        lines += ["", "%d more kinds of findings are in the report." % (len(serious) - 5)]
    return lines


def _error_lines(report, width, most=5):
    """What went wrong on hosts, in the words of Ansible or of the part that failed; hosts with the same words share a line."""
    hosts = {}
    for entry in report["hosts"]:
        if entry["error"] and entry["error"]["message"]:
            # Where the words name the host itself, all of the same kind are one nevertheless
            words = (OUTCOME_WORDS.get(entry["outcome"], "Error"), entry["error"]["phase"], entry["error"]["message"].replace(entry["host"], "HOST"))
            hosts.setdefault(words, []).append(entry)
    lines = []
    for (outcome, phase, _message), entries in list(hosts.items())[:most]:
        names = ", ".join(entry["host"] for entry in entries[:3]) + (" and %d more" % (len(entries) - 3) if len(entries) > 3 else "")
        where = " in phase %s" % phase if phase else ""
        lines += _wrap("%s%s: %s: %s" % (outcome, where, names, entries[0]["error"]["message"]), width, "  ")
    if len(hosts) > most:
        lines.append("%d more reasons are in the report." % (len(hosts) - most))
    return lines


def _places(report, rule_id, most=3):
    """Where a finding stands, one line for all hosts on which it stands alike: ``h1, h2 and 7 more: /etc/x: what was seen``; the most common first."""
    hosts = {}
    for entry in report["hosts"]:
        state = entry["after"] or entry["before"]
        for item in state["findings"] if state else []:
            if item["id"] == rule_id:
                where, detail = item["where"] or "", item["detail"] or ""
                # Many details begin with the place themselves
                words = (detail,) if where and detail.startswith(where) else tuple(filter(None, (where, detail)))
                if words and entry["host"] not in hosts.setdefault(words, []):
                    hosts[words].append(entry["host"])
    common = sorted(hosts.items(), key=lambda found: -len(found[1]))
    lines = []
    for words, names in common[:most]:
        more = " and %d more" % (len(names) - 2) if len(names) > 2 else ""
        lines.append(": ".join((", ".join(names[:2]) + more, *words)))
    if len(common) > most:
        lines.append("%d more places are in the report." % (len(common) - most))
    return lines


def _wrap(text, width, indent=""):
    start = text[: len(text) - len(text.lstrip(" "))]
    lines, current = [], start
    for word in one_line(text).split(" "):
        if not word:
            continue
        joined = current + word if current in (start, indent) else current + " " + word
        if text_width(joined) > width and current not in (start, indent):
            lines.append(current)
            joined = indent + word
        current = joined
    return [*lines, current]


# --- Markdown ------------------------------------------------------------------------------------------------------------------------------------


def markdown_text(value):
    """Text for Markdown, also inside a table: one line, with everything that Markdown or HTML would take for markup escaped."""
    return _MARKDOWN.sub(r"\\\1", one_line(value))


def markdown_code(value):
    """A code span that shows the text as it is: the fence is longer than any run of backticks in it."""
    text = one_line(value)
    fence = "`" * (max([0] + [len(run) for run in re.findall("`+", text)]) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return fence + pad + text + pad + fence


def render_markdown(report, max_evidence=3):
    """The report as Markdown (GitHub's tables): the summary, the fleet's table, and each host that was changed or has something wrong."""
    run, totals = report["run"], report["totals"]
    lines = ["# Kata AIO report", "", "**%s**" % markdown_text(headline(report)["text"]), ""]
    facts = [("Made", report["generated_at"]), ("By", "%s %s" % (report["collection"]["name"], report["collection"]["version"] or ""))]
    facts += [("Command", run["command"])] if run["command"] else []
    facts += [("Check mode", "yes: nothing was changed")] if run["check_mode"] else []
    facts += [("Limit", run["limit"])] if run["limit"] else []
    facts += [("Took", seconds_text(run["seconds"]))] if run["seconds"] is not None else []
    facts += [("Sent", bytes_text(totals["bytes_sent"]))] if totals["bytes_sent"] else []
    lines += ["* %s: %s" % (name, markdown_text(value)) for name, value in facts] + [""]
    lines += _markdown_totals(totals)
    if report["failing"]["limit"]:
        lines += ["To act on the failing hosts alone:", "", "```", one_line("--limit " + shlex.quote(report["failing"]["limit"])), "```", ""]
    if report["findings"]:
        lines += ["## Findings", "", "| Rule | Severity | Hosts | What | Remedy |", "|---|---|--:|---|---|"]
        for rule in report["findings"]:
            cells = [rule["id"], rule["severity"], len(rule["hosts"]), rule["title"] or "", rule["remedy"] or ""]
            lines.append("| %s |" % " | ".join(markdown_text(cell) for cell in cells))
        lines.append("")
    lines += ["## Fleet", "", "| %s |" % " | ".join(_ORDER), "|---|---|---|---|---|---|---|---|--:|"]
    lines += ["| %s |" % " | ".join(markdown_text(cell) for cell in _cells(entry).values()) for entry in report["hosts"]]
    lines.append("")
    bad = ("broken", "degraded", "unknown")
    told = [entry for entry in report["hosts"] if entry["steps"] or entry["strategies_tried"] or entry["error"] or entry["verdict"] in bad]
    if told:
        lines += ["## Hosts", ""]
    for entry in told:
        lines += _markdown_host(entry, max_evidence)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_totals(totals):
    names = [name for name in reversed(VERDICTS) if totals["verdicts"][name] or totals["verdicts_before"][name]]
    if not names:
        return []
    rows = [("Before", totals["verdicts_before"]), ("After", totals["verdicts"])] if totals["compared"] else [("Now", totals["verdicts"])]
    lines = ["| | %s |" % " | ".join(VERDICT_WORDS[name] for name in names), "|---|%s" % ("--:|" * len(names))]
    lines += ["| %s | %s |" % (label, " | ".join(str(counts[name]) for name in names)) for label, counts in rows]
    outcomes = ["%s: %d" % (OUTCOME_WORDS[name], count) for name, count in totals["outcomes"].items() if count]
    return lines + ([""] + ["Outcomes: " + ", ".join(outcomes)] if outcomes else []) + [""]


def _markdown_host(entry, max_evidence):
    lines = ["### %s" % markdown_text(entry["host"]), ""]
    if entry["error"]:
        where = " in phase %s" % markdown_text(entry["error"]["phase"]) if entry["error"]["phase"] else ""
        lines.append("* **%s%s**: %s" % (OUTCOME_WORDS.get(entry["outcome"], "Error"), where, markdown_text(entry["error"]["message"] or "")))
        lines += ["  %s: %s" % (key.capitalize(), markdown_text(entry["error"][key])) for key in ("undone", "next") if entry["error"][key]]
    elif entry["reason"]:
        lines.append("* Not observed: %s" % markdown_text(entry["reason"]))
    for one in entry["strategies_tried"]:
        lines.append("* Strategy %s failed: %s" % (markdown_text(one["with"] or one["strategy"]), markdown_text(one["reason"] or "")))
    if entry["plan"] and not entry["steps"]:
        lines += ["* Plan: %s" % markdown_text(reason) for reason in entry["plan"]["reasons"]]
    for step in entry["steps"]:
        how = ["changed"] if step["changed"] else []
        how += [] if step["seconds"] is None else [seconds_text(step["seconds"])]
        detail = ": " + markdown_text(step["detail"]) if step["detail"] else ""
        lines.append("* %s%s%s" % (markdown_text(step["name"] or "?"), " (%s)" % ", ".join(how) if how else "", detail))
    state = entry["after"] or entry["before"]
    for item in state["findings"] if state else []:
        if item["severity"] == "info":
            continue
        lines.append("* %s %s: %s" % (markdown_text(item["id"]), item["severity"], markdown_text(item["title"] or "")))
        lines += ["  * %s → %s" % (markdown_code(proof["asked"]), markdown_code(proof["answered"])) for proof in item["evidence"][:max_evidence]]
    return [*lines, ""]
