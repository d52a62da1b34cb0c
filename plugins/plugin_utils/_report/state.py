# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report keeps of a host's facts: the state of a host before or after. PRIVATE to kataops.aio.

Pure functions from ``ansible_facts.kata_aio`` (docs/architecture.md) to plain, smaller data with stable keys (docs/report.md).
"""

from __future__ import annotations

import math

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain

FACTS_SCHEMA_VERSION = 1

ENGINES = ("threads", "native", "io_uring")

#: What running sandboxes are counted by: their engine, no hot-plugged block device open, or one that cannot be told.
SANDBOX_COUNTS = (*ENGINES, "none_open", "unknown")
# Worst first: the order in which people want to read them.
VERDICTS = ("broken", "degraded", "unknown", "ok", "not_applicable")
SEVERITIES = ("error", "warning", "info")


def number(value):
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


def state_of(name, facts):
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
        "storage": [{key: item.get(key) for key in ("path", "probed", "filesystem", "o_direct", "reason")} for item in facts.get("storage") or []],
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
    engine = runtime.get("engine") or {}
    engines = {engine: ((qemu.get("engines") or {}).get(engine) or {}).get("outcome") for engine in ENGINES} if qemu else None
    return {
        "id": runtime.get("id"),
        "handlers": runtime.get("handlers") or [],
        "cri": runtime.get("cri") or [],
        "kind": runtime.get("runtime"),
        "release": runtime.get("release"),
        "hypervisor": runtime.get("hypervisor"),
        "verdict": verdict,
        "engine": {"asked": asked, "effective": engine.get("effective"), "reason": engine.get("reason"), "source": sources.get("block_device_aio")},
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
        "by_engine": {key: engines.get(key) for key in SANDBOX_COUNTS},
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
    alternatives = [{"strategy": way.get("strategy"), "with": ", ".join(way.get("uses") or [])} for way in plan.get("alternatives") or []]
    return {
        "needed": plan.get("needed"),
        "strategy": plan.get("strategy"),
        "reasons": plan.get("reasons") or [],
        "alternatives": alternatives,
        "remaining": [{key: item.get(key) for key in ("runtime", "handlers", "reason")} for item in plan.get("remaining") or []],
        "prices": plan.get("prices") or [],
    }


def summary_of(state):
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
