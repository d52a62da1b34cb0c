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
import math
import re
from collections import Counter

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._requests import block_request

SCHEMA_VERSION = 1
FACTS_SCHEMA_VERSION = 1

ENGINES = ("threads", "native", "io_uring")
# Worst first: the order in which people want to read them.
VERDICTS = ("broken", "degraded", "unknown", "ok", "not_applicable")
OUTCOMES = ("failed", "rolled_back", "unreachable", "untouched", "would_change", "repaired", "converged", "not_applicable")
SEVERITIES = ("error", "warning", "info")
POLICIES = ("broken", "degraded", "never")

_RUN_KEYS = ("command", "check_mode", "limit", "waves", "budget", "started_at", "seconds")
_LOST = "Ansible lost this host before it told an outcome: it was unreachable, or a task failed outside the guarded steps"


def plain(value):
    """Return a copy of ``value`` made of plain JSON types only.

    Ansible hands over subclasses: unsafe and (from ansible-core 2.19) tagged strings, lazy containers. What JSON cannot say becomes None (NaN,
    infinity) or its text. Lone surrogates, with which Python marks bytes that were no UTF-8, become U+FFFD, so that every renderer can encode them.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else None
    if isinstance(value, dict) or hasattr(value, "keys"):
        return {plain(key) if isinstance(key, str) else str(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return plain(str(value))


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
    before, before_reason = _state(name, item.get("before"))
    after, after_reason = _state(name, item.get("after")) if item.get("after") is not None else (None, None)
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
        "summary": _summary(latest),
        "plan": plan,
        "before": _without(before, "plan"),
        "after": _without(after, "plan"),
    }
    entry.update(record)
    if entry["road"] is None and plan:
        entry["road"] = plan["road"]
    return entry


def _untold_outcome(verdict, plan, check_mode):
    """The outcome of a host that a remediation passed by: most hosts of a healthy fleet never get a record, as that would cost a task for each."""
    if verdict == "not_applicable":
        return "not_applicable"
    if not plan or not plan["needed"]:
        return "untouched" if plan and plan["road"] == "impossible" else "converged"
    return "would_change" if check_mode and plan["road"] != "impossible" else "untouched"


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
    steps = [
        {"name": step.get("name"), "changed": step.get("changed"), "seconds": _number(step.get("seconds")), "detail": step.get("detail")}
        for step in record.get("steps") or []
        if isinstance(step, dict)
    ]
    return {
        "outcome": outcome,
        "phase_reached": record.get("phase_reached") or None,
        "road": record.get("road"),
        "wave": record.get("wave"),
        "steps": steps,
        "error": error,
        "bytes_sent": _number(record.get("bytes_sent")),
        "seconds": _number(record.get("seconds")),
    }


def _number(value):
    """A number, also where Jinja made text of it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and not isinstance(value, float) else round(number, 3)


def _state(name, facts):
    """The part of a host's facts that a reader of the report needs, and the reason where there is none: ``(state, reason)``."""
    if facts is None:
        return None, "no facts were collected from this host"
    if not hasattr(facts, "keys"):
        raise AioError("the facts are no mapping but %s" % type(facts).__name__, where=name, expected="what kataops.aio.kata_aio_facts returns")
    owner = (facts.get("host") or {}).get("name")
    if owner is not None and plain(owner) != name:
        # ansible-core 2.21: a run_once debug, set_fact or include_vars before the first facts makes all hosts share one dictionary of facts.
        raise AioError(
            "its facts are those of %s" % plain(owner),
            where=name,
            expected="facts of its own",
            remedy="gather the facts (kataops.aio.kata_aio_facts) before any task with run_once",
        )
    version = facts.get("schema_version")
    if version != FACTS_SCHEMA_VERSION:
        return None, "its facts have schema_version %s, this collection reads %s; gather them again" % (version, FACTS_SCHEMA_VERSION)
    facts = plain({key: facts[key] for key in facts if key != "sandboxes"} | {"sandboxes": _sandboxes(facts.get("sandboxes"))})
    verdict = facts.get("verdict") or "unknown"
    if verdict not in VERDICTS:
        raise AioError("unknown verdict %r in the facts" % verdict, where=name, expected="one of " + ", ".join(VERDICTS))
    qemus = facts.get("qemus") or []
    by_name = {path: qemu for qemu in reversed(qemus) for path in [qemu.get("path"), qemu.get("real_path"), *(qemu.get("names") or [])] if path}
    verdicts = _verdicts_by_runtime(facts.get("verdicts"))
    findings = [_finding(item) for item in facts.get("findings") or []]
    return {
        "verdict": verdict,
        "runtimes": [_runtime(item, by_name, verdicts) for item in facts.get("runtimes") or []],
        "qemus": [_qemu(item) for item in qemus],
        "kernel": _kernel(facts.get("kernel")),
        "libaio": _libaio(facts.get("libaio")),
        "storage": [
            {key: item.get(key) for key in ("path", "probed", "filesystem", "o_direct", "reason")} for item in facts.get("storage") or []
        ],
        "sandboxes": facts["sandboxes"],
        "findings": sorted(findings, key=lambda item: (SEVERITIES.index(item["severity"]), item["id"], item["runtime"] or "")),
        "plan": _plan(facts.get("plan")),
    }, None


def _verdicts_by_runtime(verdicts):
    """C(verdicts) as runtime id → verdict, from a mapping or from a list of C({runtime, verdict})."""
    if isinstance(verdicts, list):
        return {item.get("runtime") or item.get("id"): item.get("verdict") for item in verdicts if isinstance(item, dict)}
    return {key: value.get("verdict") if isinstance(value, dict) else value for key, value in (verdicts or {}).items()}


def _runtime(runtime, qemus, verdicts):
    values = runtime.get("values") or {}
    sources = runtime.get("sources") or {}
    qemu = qemus.get(values.get("path"))
    verdict = verdicts.get(runtime.get("id")) or "unknown"
    asked = values.get("block_device_aio")
    effective, reason = _effective(runtime, qemu, verdict)
    engines = {engine: ((qemu.get("engines") or {}).get(engine) or {}).get("outcome") for engine in ENGINES} if qemu else None
    return {
        "id": runtime.get("id"),
        "handlers": runtime.get("handlers") or [],
        "cri": runtime.get("cri") or [],
        "kind": runtime.get("runtime"),
        "release": runtime.get("release"),
        "hypervisor": runtime.get("hypervisor"),
        "verdict": verdict,
        "engine": {"asked": asked, "effective": effective, "reason": reason, "source": sources.get("block_device_aio")},
        "cache_set": values.get("block_device_cache_set"),
        "cache_direct": values.get("block_device_cache_direct"),
        "qemu": {
            "path": values.get("path"),
            "real_path": qemu.get("real_path") if qemu else None,
            "version": qemu.get("version") if qemu else None,
            "linkage": qemu.get("linkage") if qemu else None,
            "origin": qemu.get("origin") if qemu else None,
            "status": qemu.get("status") if qemu else None,
            "engines": engines,
        },
    }


def _effective(runtime, qemu, verdict):
    """The engine that a sandbox started now gets for its block devices: ``(engine, reason)``.

    C(none) where QEMU refuses the disk or the sandbox, None where it is not known. It is what this QEMU answered on this host to what this
    runtime and release send.
    """
    if runtime.get("hypervisor") not in (None, "qemu"):
        return None, "the hypervisor is %s: QEMU's engines do not apply" % runtime.get("hypervisor")
    values = runtime.get("values") or {}
    if values.get("disable_block_device_use"):
        return None, "disable_block_device_use is set: no block devices are used"
    if qemu is None:
        return None, "its QEMU was not examined"
    if qemu.get("status") != "answered":
        return ("none" if verdict == "broken" else None), qemu.get("reason")
    request = block_request({"values": values, "release": runtime.get("release"), "runtime": runtime.get("runtime")})
    engine = (qemu.get("engines") or {}).get(request["engine"])
    if engine is None:
        return "none", "%s is no engine" % request["engine"]
    outcome = engine.get("outcome")
    if outcome in ("not_compiled", "refused"):
        return "none", engine.get("reason")
    if outcome == "falls_back":
        return "threads", engine.get("reason")
    if outcome != "works":
        return None, engine.get("reason") or "QEMU did not say"
    if verdict == "broken":
        # QEMU can, and yet this runtime fails: a missing cache key, a refused configuration, missing firmware. The findings tell which.
        return "none", request["reason"] or "this QEMU could; the findings say what stands in its way"
    return request["engine"], request["reason"] if request["ignored"] else None


def _qemu(qemu):
    firmware = qemu.get("firmware") or {}
    view = {
        key: qemu.get(key)
        for key in ("path", "real_path", "status", "reason", "kind", "origin", "package", "version", "linkage", "devices_missing", "objects_missing")
    }
    view["firmware_missing"] = firmware.get("missing") or []
    view["engines"] = {}
    for name in ENGINES:
        engine = (qemu.get("engines") or {}).get(name) or {}
        view["engines"][name] = {key: engine.get(key) for key in ("compiled", "usable", "outcome", "observed", "reason")}
        view["engines"][name]["evidence"] = _evidence(engine.get("evidence"))
    view["evidence"] = _evidence(qemu.get("evidence"))
    return view


def _evidence(items):
    return [{key: item.get(key) for key in ("asked", "answered", "by")} for item in items or [] if isinstance(item, dict)]


def _kernel(kernel):
    kernel = kernel or {}
    aio = kernel.get("aio") or {}
    ring = kernel.get("io_uring") or {}
    return {
        "release": kernel.get("release"),
        "aio_max_nr": aio.get("max_nr"),
        "aio_nr": aio.get("nr"),
        "contexts_free": aio.get("contexts_free"),
        "aio_reason": aio.get("reason"),
        "io_uring_disabled": ring.get("disabled"),
        "io_uring_root": (ring.get("setup_root") or {}).get("ok"),
        "io_uring_reason": ring.get("reason"),
    }


def _libaio(libaio):
    return {
        part: {key: ((libaio or {}).get(part) or {}).get(key) for key in ("present", "path", "version", "reason")}
        for part in ("runtime", "headers", "static_archive")
    }


def _sandboxes(sandboxes):
    """The counts; the list of processes stays on the way (a host may run hundreds)."""
    sandboxes = sandboxes or {}
    engines = sandboxes.get("by_engine") or {}
    return {
        "total": sandboxes.get("total"),
        "by_engine": {key: engines.get(key) for key in (*ENGINES, "none_open")},
        "silent_fallbacks": sandboxes.get("silent_fallbacks"),
        "reason": sandboxes.get("reason") if sandboxes else "not looked at",
    }


def _finding(finding):
    view = {key: finding.get(key) for key in ("id", "severity", "runtime", "title", "detail", "why", "remedy", "where")}
    view["id"] = view["id"] or "?"
    if view["severity"] not in SEVERITIES:
        view["severity"] = "error"
    if isinstance(view["where"], (dict, list)):
        view["where"] = str(view["where"])
    view["evidence"] = _evidence(finding.get("evidence"))
    return view


def _plan(plan):
    if not plan:
        return None
    return {"needed": plan.get("needed"), "road": plan.get("road"), "reasons": plan.get("reasons") or []}


def _summary(state):
    """One line about a host: its worst runtime's facts, for tables. All None where nothing is known."""
    summary = dict.fromkeys(("runtimes", "kata_release", "runtime", "qemu_version", "engine_asked", "engine_effective", "contexts_free", "sandboxes"))
    summary["findings"] = []
    if state is None:
        return summary
    runtimes = sorted(state["runtimes"], key=lambda item: (VERDICTS.index(item["verdict"]) if item["verdict"] in VERDICTS else 0, item["id"] or ""))
    summary["runtimes"] = len(runtimes)
    if runtimes:
        worst = runtimes[0]
        summary.update(
            kata_release=worst["release"],
            runtime=worst["kind"],
            qemu_version=worst["qemu"]["version"],
            engine_asked=worst["engine"]["asked"],
            engine_effective=worst["engine"]["effective"],
        )
    summary["contexts_free"] = state["kernel"]["contexts_free"]
    summary["sandboxes"] = state["sandboxes"]["total"]
    summary["findings"] = list(dict.fromkeys(item["id"] for item in state["findings"] if item["severity"] != "info"))
    return summary


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
            "by_engine": {key: sum(item["by_engine"][key] or 0 for item in sandboxes) for key in (*ENGINES, "none_open")},
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
