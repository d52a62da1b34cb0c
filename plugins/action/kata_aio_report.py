# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what the hosts' facts and outcome records tell, and writes the fleet's report. Runs on the controller alone."""

from __future__ import annotations

import datetime
import json
import shlex

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._version import VERSION
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._report.files import FORMATS, query_report, write_answer, write_report
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import POLICIES, limit_of, report_model
from ansible_collections.kataops.aio.plugins.plugin_utils._report.terminal import one_line, table_lines

ARGUMENTS = {
    "dest": {"type": "str"},
    "formats": {"type": "list", "elements": "str", "choices": list(FORMATS), "default": ["json", "html"]},
    "name": {"type": "str", "default": "kata-aio-report"},
    "hosts": {"type": "list", "elements": "str"},
    "lost": {"type": "list", "elements": "str"},
    "facts": {"type": "str", "default": "kata_aio"},
    "before": {"type": "str", "default": "kata_aio_before"},
    "outcome": {"type": "str", "default": "kata_aio_outcome"},
    "run": {
        "type": "dict",
        "default": {},
        "options": {
            "command": {"type": "str"},
            "waves": {"type": "list", "elements": "str"},
            "budget": {"type": "str"},
            "started_at": {"type": "str"},
            "seconds": {"type": "float"},
        },
    },
    "query": {"type": "str"},
    "fail_on": {"type": "str", "choices": list(POLICIES), "default": "never"},
    "show": {"type": "bool", "default": True},
    "max_rows": {"type": "int", "default": 40},
    "width": {"type": "int"},
}

# As many names as a person reads; more are in the .limit file.
NAMED = 20
# Phases in which a failure is one under every policy: the host was not looked at, or not rolled back.
UNCONDITIONAL = ("observe", "rollback")
COLOURS = {"broken": "red", "degraded": "yellow", "unknown": "bright purple", "ok": "green"}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        options = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        try:
            return self._report(options, task_vars)
        except AioError as exc:
            return dict(exc.as_failure(), failed=True, changed=False)

    def _report(self, options, task_vars):
        if "/" in options["name"] or options["name"].startswith("."):
            raise AioError("not a file name: %r" % plain(options["name"]), where="name", expected="the report's file name without folder and suffix")
        hosts, lost = _hosts_and_lost(options, task_vars)
        run = _run(options["run"], task_vars)
        report = report_model(
            (_collect(task_vars["hostvars"], host, options, host in lost) for host in hosts),
            run,
            collection_version=VERSION,
            fail_on=options["fail_on"],
        )
        query = plain(options["query"]) or None
        answer = query_report(report, query) if query else None
        paths = {}
        if options["dest"]:
            paths = write_report(report, plain(options["dest"]), plain(options["name"]), list(dict.fromkeys(plain(options["formats"]))))
            paths.update(write_answer(plain(options["dest"]), plain(options["name"]), query, answer))
        ends = ends_of(report)
        lines = table_lines(report, options["width"] or Display().columns + 1, options["max_rows"])
        if options["show"]:
            asked = ["", "%s:" % one_line(query), *json.dumps(answer, indent=2, ensure_ascii=True).splitlines()] if query else []
            _show(lines, paths, asked, closing_lines(report, ends, paths))
        failing = report["failing"]
        names = [item["host"] for item in failing["hosts"]]
        result = {
            "changed": False,
            "paths": paths,
            "totals": report["totals"],
            "failing": names,
            "ends": ends,
            "limit": failing["limit"],
            "table": "\n".join(line for tone, line in lines),
            "query_result": answer,
            "artifact": {
                "schema_version": report["schema_version"],
                "generated_at": report["generated_at"],
                "command": run["command"],
                "hosts": report["totals"]["hosts"],
                "verdicts": report["totals"]["verdicts"],
                "outcomes": report["totals"]["outcomes"],
                "failing": names,
                "limit": failing["limit"],
                "paths": paths,
                "query_result": answer,
            },
        }
        if names:
            result.update(failed=True, msg=failure_message(failing, report["totals"]["hosts"], paths))
        return result


def _hosts_and_lost(options, task_vars):
    """The hosts to report on, each once, and those of them that Ansible has lost."""
    everyone = task_vars.get("ansible_play_hosts_all") or []
    hosts = [plain(host) for host in (everyone if options["hosts"] is None else options["hosts"])]
    if options["lost"] is not None:
        lost = {plain(host) for host in options["lost"]}
    else:
        lost = {plain(host) for host in everyone} - {plain(host) for host in task_vars.get("ansible_play_hosts") or []}
    hostvars = task_vars["hostvars"]
    unknown = sorted({*hosts, *lost} - {host for host in {*hosts, *lost} if host in hostvars})
    if unknown:
        raise AioError("not in the inventory: %s" % ", ".join(unknown), where="hosts", expected="names of inventory hosts")
    return list(dict.fromkeys([*hosts, *(sorted(lost) if options["hosts"] is None else [])])), lost


def _collect(hostvars, host, options, lost):
    """What one host's variables tell. Nothing but the named variables is looked at, and nothing is templated unless it is still a template."""
    raw = hostvars.raw_get(host) if hasattr(hostvars, "raw_get") else hostvars[host]
    latest = (raw.get("ansible_facts") or {}).get(options["facts"])

    def value(name):
        found = raw.get(name)
        return hostvars[host][name] if isinstance(found, str) else found

    before = value(options["before"])
    outcome = value(options["outcome"])
    # Where the host was not observed again, its latest facts are those from before: they are no second observation.
    after = latest if before and latest != before else None
    return {"host": host, "before": before or latest, "after": after, "outcome": outcome or None, "lost": lost}


def _run(given, task_vars):
    run = plain(given)
    run["check_mode"] = bool(task_vars.get("ansible_check_mode"))
    run["limit"] = plain(task_vars.get("ansible_limit"))
    if run.get("started_at") and run.get("seconds") is None:
        run["seconds"] = _seconds_since(run["started_at"])
    return {"command": None, **run}


def _seconds_since(stamp):
    """Seconds from an ISO 8601 time (UTC where it names no zone) to now."""
    try:
        # Before Python 3.11 fromisoformat does not read a final Z.
        start = datetime.datetime.fromisoformat(stamp[:-1] + "+00:00" if stamp.endswith("Z") else stamp)
    except ValueError as exc:
        raise AioError("no time: %r" % stamp, where="run.started_at", expected="ISO 8601, such as 2026-01-31T09:00:00Z") from exc
    if start.tzinfo is None:
        start = start.replace(tzinfo=datetime.timezone.utc)
    return round((datetime.datetime.now(datetime.timezone.utc) - start).total_seconds(), 1)


def _show(lines, paths, answer, closing):
    display = Display()
    display.display("")
    for tone, line in lines:
        display.display(line, color=COLOURS.get(tone))
    for line in answer:
        display.display(line)
    for form, path in paths.items():
        if form != "limit":
            display.display("%s: %s" % ("Answer" if form == "query" else "Report", path))
    for line in closing:
        display.display(line, color="red")


def closing_lines(report, ends, paths):
    """Why the run ends with an error, once for all hosts; nothing where it does not."""
    if not ends:
        return []
    excused = len(ends) - len(report["failing"]["hosts"])
    policy = " (kata_aio_fail_on: %s)" % report["failing"]["policy"] if excused < len(ends) else ""
    names, total = list(ends), len(report["hosts"])
    count = "%d of %d host%s %s" % (len(names), total, "" if total == 1 else "s", "fails" if len(names) == 1 else "fail")
    lines = ["", "%s%s, so this run ends with an error. Ansible shows each with its reason below." % (count, policy)]
    by_file = len(names) > NAMED and "limit" in paths and not excused
    return [*lines, "To act on them alone: --limit %s" % shlex.quote("@" + paths["limit"] if by_file else limit_of(names))]


def ends_of(report):
    """How each host ends that fails: ``{host: {msg, unreachable}}``.

    Those that count as failing by the policy, and those that could not be looked at, by any policy: of them a report tells nothing.
    """
    counted = {item["host"]: item["why"] for item in report["failing"]["hosts"]}
    ends = {}
    for entry in report["hosts"]:
        error = entry["error"] or {}
        if entry["host"] in counted or (entry["outcome"] in ("failed", "unreachable") and error.get("phase") in UNCONDITIONAL):
            why = counted.get(entry["host"]) or error.get("message") or entry["outcome"]
            ends[entry["host"]] = {"msg": one_line(why), "unreachable": entry["outcome"] == "unreachable"}
    return ends


def failure_message(failing, total, paths):
    """Why the task fails: the policy, the hosts with a reason each, and the ``--limit`` that selects them."""
    hosts = failing["hosts"]
    lines = ["%d of %d host%s count as failing (kata_aio_fail_on: %s)." % (len(hosts), total, "" if total == 1 else "s", failing["policy"])]
    lines += ["  %s: %s" % (item["host"], one_line(item["why"])) for item in hosts[:NAMED]]
    if len(hosts) > NAMED:
        lines.append("  and %d more" % (len(hosts) - NAMED))
    if "html" in paths:
        lines.append("Report: %s" % paths["html"])
    by_file = len(hosts) > NAMED and "limit" in paths
    lines.append("To act on them alone: --limit %s" % shlex.quote("@" + paths["limit"] if by_file else failing["limit"]))
    return "\n".join(lines)
