# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model: what happened to a fleet, as one plain, versioned document. PRIVATE to kataops.aio.

Pure functions. Input is what the hosts' C(ansible_facts.kata_aio) and the playbook's outcome records hold (docs/architecture.md); output is made of
dict, list, str, int, float, bool and None only, so that every renderer and ``json`` can take it. docs/report.md describes each key and
docs/report.schema.json is the same as a JSON Schema: a change here is a change there, and of :data:`SCHEMA_VERSION` when it breaks a reader.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._report.state import SANDBOX_COUNTS, SEVERITIES, VERDICTS, number, state_of, summary_of

SCHEMA_VERSION = 1

OUTCOMES = ("failed", "rolled_back", "unreachable", "untouched", "would_change", "degraded", "partly_repaired", "repaired", "converged", "not_applicable")
POLICIES = ("broken", "degraded", "never")

_RUN_KEYS = ("command", "check_mode", "limit", "waves", "budget", "started_at", "seconds")
_LOST = "Ansible dropped this host before it told an outcome; its words are in the output of the run"


def natural_key(name):
    """A sort key that puts C(h2) before C(h10)."""
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


def report_model(hosts, run, collection_version=None, generated_at=None, fail_on="never"):
    """Build the report.

    :arg hosts: iterable of C({host, before, after, outcome, lost}): the host's name, its facts before and after (each a C(kata_aio) facts dict or
        None), its outcome record or None, and whether Ansible lost the host. Where nothing was changed only C(before) is given.
    :arg run: C({command, check_mode, limit, waves, budget, started_at, seconds}); missing keys become None.
        C(command) C(remediate) has a meaning: there, a host without a record was passed by, and its plan tells its outcome.
    :arg generated_at: an aware datetime; now, when None.
    :arg fail_on: which hosts count as failing: see :func:`is_failing`.
    :raises AioError: when a record breaks the contract, with the host's name.
    """
    if fail_on not in POLICIES:
        raise AioError("not a policy: %r" % (fail_on,), where="fail_on", expected="one of " + ", ".join(POLICIES))
    entries = sorted((_host_entry(item, run) for item in hosts), key=lambda entry: natural_key(entry["host"]))
    run = plain(run or {})
    stamp = (generated_at or datetime.datetime.now(datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    failing = [{"host": entry["host"], "why": _failing_why(entry)} for entry in entries if is_failing(entry, fail_on)]
    return {
        "schema_version": SCHEMA_VERSION,
        "generated_at": stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "collection": {"name": "kataops.aio", "version": plain(collection_version)},
        "run": {key: run.get(key) for key in _RUN_KEYS},
        "totals": _totals(entries),
        "findings": _fleet_findings(entries),
        "failing": {"policy": fail_on, "hosts": failing, "limit": limit_of([item["host"] for item in failing])},
        "hosts": entries,
    }


def is_failing(entry, policy):
    """Whether a host of the report counts as failing under a policy.

    ``broken``: the last verdict is C(broken), or it failed, was rolled back or was lost. ``degraded``: those, and C(degraded) and C(unknown), as
    an unknown state is no proof of health. ``never``: none.
    """
    if policy == "never":
        return False
    if entry["outcome"] in ("failed", "rolled_back", "unreachable") or entry["verdict"] == "broken":
        return True
    return policy == "degraded" and entry["verdict"] in ("degraded", "unknown")


def limit_of(names):
    """The value for ``--limit`` that selects exactly these hosts; None for no hosts."""
    return ",".join(names) if names else None


def engine_text(asked, effective):
    """How the engine is told in a table: C(native), or C(native → threads) where the two differ, C(native → fails)."""
    if asked is None and effective is None:
        return None
    if effective == asked:
        return asked
    return "%s → %s" % (asked or "?", {"none": "fails", None: "?"}.get(effective, effective))


# --- one host ------------------------------------------------------------------------------------------------------------------------------------


def _host_entry(item, run):
    name = plain(item["host"])
    before, before_reason = state_of(name, item.get("before"))
    after, after_reason = state_of(name, item.get("after")) if item.get("after") is not None else (None, None)
    latest = after or before
    record = _outcome_record(name, item.get("outcome"), bool(item.get("lost")))
    plan = (before or after or {}).get("plan")
    passed_by = record["outcome"] is None and record["phase_reached"] is None and latest is not None
    if passed_by and (run or {}).get("command") == "remediate":
        record["outcome"] = _untold_outcome(latest["verdict"], plan, bool((run or {}).get("check_mode")))
    reason = None
    if latest is None:
        reason = after_reason or before_reason
    entry = {
        "host": name,
        "verdict": latest["verdict"] if latest else "unknown",
        "verdict_before": before["verdict"] if before else "unknown",
        "reason": reason,
        "summary": summary_of(latest),
        "plan": plan,
        "before": _without(before, "plan"),
        "after": _without(after, "plan"),
    }
    entry.update(record)
    if entry["strategy"] is None and plan:
        entry["strategy"] = plan["strategy"]
    return entry


def _untold_outcome(verdict, plan, check_mode):
    """The outcome of a host that a remediation passed by: most hosts of a healthy fleet never get a record, as that would cost a task for each."""
    if verdict == "not_applicable":
        return "not_applicable"
    if not plan or not plan["needed"]:
        return "untouched" if plan and plan["strategy"] == "impossible" else "converged"
    return "would_change" if check_mode and plan["strategy"] != "impossible" else "untouched"


def _without(mapping, key):
    return None if mapping is None else {name: value for name, value in mapping.items() if name != key}


def _outcome_record(name, record, lost):
    """The outcome keys of a host, each present. A host that Ansible lost is C(unreachable) unless its record already tells how it ended badly."""
    if record is not None and not hasattr(record, "keys"):
        raise AioError("the outcome record is no mapping: %r" % (record,), where=name, expected="the record that docs/report.md describes")
    record = plain(record or {})
    outcome = record.get("outcome") or None
    if outcome is not None and outcome not in OUTCOMES:
        raise AioError("unknown outcome %r in the outcome record" % outcome, where=name, expected="one of " + ", ".join(OUTCOMES))
    error = record.get("error") or None
    if error is not None and not isinstance(error, dict):
        error = {"message": str(error)}
    if lost and outcome not in ("failed", "rolled_back", "unreachable"):
        outcome = "unreachable"
        error = error or {"phase": record.get("phase_reached"), "message": _LOST, "undone": None, "next": None}
    if error is not None:
        error = {key: error.get(key) for key in ("phase", "message", "undone", "next")}
    tried = [{key: one.get(key) for key in ("strategy", "with", "phase", "reason")} for one in record.get("strategies_tried") or [] if isinstance(one, dict)]
    return {
        "outcome": outcome,
        "phase_reached": record.get("phase_reached") or None,
        "strategy": record.get("strategy"),
        "strategies_tried": tried,
        "wave": record.get("wave") if number(record.get("wave")) is None else number(record["wave"]),
        "steps": _steps(record),
        "error": error,
        "bytes_sent": number(record.get("bytes_sent")),
        "seconds": number(record.get("seconds")),
    }


def _steps(record):
    """The steps of an outcome record. One that tells when it began (C(at), seconds since 1970) took until the next one, or until the record's end
    (C(ended), where a soak came before the last step; else C(started) and C(seconds))."""
    steps = [step for step in record.get("steps") or [] if isinstance(step, dict)]
    begun = [number(step.get("at")) for step in steps]
    started, took, ended = (number(record.get(key)) for key in ("started", "seconds", "ended"))
    if ended is None and started is not None and took is not None:
        ended = started + took
    ends = [*begun[1:], ended]
    return [
        {
            "name": step.get("name"),
            "changed": step.get("changed"),
            "seconds": number(end - at) if step.get("seconds") is None and at is not None and end is not None else number(step.get("seconds")),
            "detail": step.get("detail"),
        }
        for step, at, end in zip(steps, begun, ends)
    ]


# --- the fleet -----------------------------------------------------------------------------------------------------------------------------------


def _totals(entries):
    outcomes = Counter(entry["outcome"] for entry in entries if entry["outcome"])
    waves = {}
    for entry in entries:
        if entry["wave"] is not None and entry["outcome"]:
            waves.setdefault(entry["wave"], Counter())[entry["outcome"]] += 1
    latest = [entry["after"] or entry["before"] for entry in entries]
    sandboxes = [state["sandboxes"] for state in latest if state]
    changed = any(entry["after"] for entry in entries)
    return {
        "hosts": len(entries),
        "runtimes": sum(len(state["runtimes"]) for state in latest if state),
        "verdicts_before": _counted(VERDICTS, Counter(entry["verdict_before"] for entry in entries)),
        "verdicts": _counted(VERDICTS, Counter(entry["verdict"] for entry in entries)),
        "compared": changed,
        "outcomes": _counted(OUTCOMES, outcomes),
        "waves": [{"wave": wave, "hosts": sum(count.values()), "outcomes": _counted(OUTCOMES, count)} for wave, count in _in_order(waves)],
        "sandboxes": {
            "hosts_seen": sum(1 for item in sandboxes if item["total"] is not None),
            "total": sum(item["total"] or 0 for item in sandboxes),
            "by_engine": {key: sum(item["by_engine"][key] or 0 for item in sandboxes) for key in SANDBOX_COUNTS},
            "silent_fallbacks": sum(item["silent_fallbacks"] or 0 for item in sandboxes),
        },
        "bytes_sent": sum(entry["bytes_sent"] or 0 for entry in entries),
        "host_seconds": round(sum(entry["seconds"] or 0 for entry in entries), 3),
    }


def _in_order(waves):
    return sorted(waves.items(), key=lambda item: natural_key(str(item[0])))


def _counted(names, counter):
    return {name: counter.get(name, 0) for name in names}


def _fleet_findings(entries):
    """The findings of the latest states by rule: worst severity first, then by how many hosts have it."""
    rules = {}
    for entry in entries:
        state = entry["after"] or entry["before"]
        for finding in state["findings"] if state else []:
            rule = rules.setdefault(
                finding["id"], {key: finding[key] for key in ("id", "severity", "title", "why", "remedy")} | {"hosts": [], "occurrences": 0}
            )
            rule["occurrences"] += 1
            if not rule["hosts"] or rule["hosts"][-1] != entry["host"]:
                rule["hosts"].append(entry["host"])
    return sorted(rules.values(), key=lambda rule: (SEVERITIES.index(rule["severity"]), -len(rule["hosts"]), rule["id"]))


def _failing_why(entry):
    """A few words on why the host fails: the error's message, else its worst findings' titles, else the verdict."""
    if entry["error"] and entry["error"]["message"]:
        return entry["error"]["message"]
    state = entry["after"] or entry["before"]
    titles = [item for item in state["findings"] if item["severity"] == "error"] or state["findings"] if state else []
    if titles:
        first = titles[0]
        return "%s %s" % (first["id"], first["title"]) if first["title"] else first["id"]
    return entry["reason"] or entry["outcome"] or entry["verdict"]
