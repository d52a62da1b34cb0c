# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From findings and policy to the cheapest sufficient steps. PRIVATE to kataops.aio.

Pure functions over plain data; the shapes are in docs/architecture.md. A plan is a proposal: each road is proved on the host before the switch.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._assess import contexts_per_sandbox, qemu_of
from ansible_collections.kataops.aio.plugins.plugin_utils._requests import block_request, can_use
from ansible_collections.kataops.aio.plugins.plugin_utils._settings import wanted_keys

#: Cheapest first; ``fall_back`` comes after all of them and only where the user allows it.
ROADS = ("configuration", "reuse", "replace", "rebuild")

EVENTS_PER_CONTEXT = 1024

#: As ``qemu_path``: the binary of the tree that the stage phase brings, whose path is known only then.
STAGED = ""

Data = t.Dict[str, t.Any]


def target_engine(runtime: Data, observations: Data, policy: Data) -> str:
    """The engine that the runtime should use: the policy's, else the one that it asks for, unless the host can never give that one."""
    if policy["engine"] != "auto":
        return policy["engine"]
    asked = block_request(runtime)["engine"]
    if asked == "threads":
        return "threads"
    if asked == "io_uring" and kernel_allows_io_uring(runtime, observations):
        return "io_uring"
    return "native"


def kernel_allows_io_uring(runtime: Data, observations: Data) -> bool:
    """Whether the kernel lets this runtime's QEMU (root, or an ordinary user where ``rootless``) set up a ring."""
    io_uring = observations["kernel"]["io_uring"]
    return io_uring["setup_user" if runtime["values"].get("rootless") else "setup_root"]["ok"] is not False


def storage_allows(engine: str, observations: Data) -> bool:
    """Whether the storage allows what the engine needs (native: O_DIRECT)."""
    return engine != "native" or not any(s["o_direct"] is False for s in observations["storage"])


def serves(qemu: Data | None, engine: str) -> bool:
    """Whether this QEMU can serve the engine once the kernel's limits allow it."""
    if qemu is None or qemu["status"] != "answered" or qemu["firmware"]["missing"]:
        return False
    return qemu["engines"][engine]["compiled"] is True


def complete(qemu: Data) -> bool:
    """Whether a QEMU has all that Kata needs beside the engine."""
    return not qemu["devices_missing"] and not qemu["objects_missing"] and bool(qemu["machine_types"])


def reusable(observations: Data, engine: str, besides: str | None) -> Data | None:
    """Another QEMU of this host that serves the engine: one of our trees first, else a complete one of the distribution."""
    rank = {"kataops": 0, "kata_static": 1, "distribution": 2}
    fit = [
        qemu
        for qemu in observations["qemus"]
        if besides not in qemu["names"] and qemu["origin"] in rank and serves(qemu, engine) and (qemu["origin"] == "kata_static" or complete(qemu))
    ]
    return min(fit, key=lambda qemu: (rank[qemu["origin"]], qemu["path"]), default=None)


def best_engine(runtime: Data, qemu: Data | None, observations: Data) -> str | None:
    """The best engine that works with what is there now: io_uring, else threads."""
    if qemu is None or qemu["status"] != "answered":
        return None
    for engine in ("io_uring", "threads"):
        usable = qemu["engines"][engine]["usable"] and can_use(runtime, engine)
        if usable and (engine == "threads" or kernel_allows_io_uring(runtime, observations)):
            return engine
    return None


def _runtime_plan(runtime: Data, observations: Data, policy: Data) -> Data:
    """``{runtime, engine, road, qemu_path, reason, keys, notes}`` for one runtime that needs something."""
    engine = target_engine(runtime, observations, policy)
    path = runtime["values"]["path"]
    qemu = qemu_of(observations, path)
    plan: Data = {"runtime": runtime["id"], "engine": engine, "road": None, "qemu_path": None, "reason": None, "keys": {}, "notes": []}
    if not can_use(runtime, engine):
        plan["reason"] = "%s %s cannot use %s" % (runtime["runtime"] or "this runtime", runtime["release"] or "(release unknown)", engine)
    elif not storage_allows(engine, observations):
        plan["reason"] = "the storage refuses O_DIRECT, which %s needs" % engine
    else:
        reuse = reusable(observations, engine, path)
        for road in policy["roads"]:
            if road == "configuration" and serves(qemu, engine):
                return dict(plan, road=road, reason="%s has %s" % (path, engine))
            if road == "reuse" and reuse is not None:
                return dict(plan, road=road, qemu_path=reuse["path"], reason="%s has %s and all that Kata needs" % (reuse["path"], engine))
            if road == "replace" and policy.get("artifact"):
                return dict(plan, road=road, qemu_path=STAGED, reason="an artifact is given: %s" % policy["artifact"])
            if road == "rebuild":
                return dict(plan, road=road, qemu_path=STAGED, reason="no QEMU of this host has %s and all that Kata needs" % engine)
        plan["reason"] = "none of the allowed roads (%s) leads to %s" % (", ".join(policy["roads"]), engine)
    instead = best_engine(runtime, qemu, observations)
    if policy["fall_back"] and instead is not None:
        return dict(plan, road="fall_back", engine=instead, reason="%s; %s works here" % (plan["reason"], instead))
    return dict(plan, road="impossible")


def make_plan(observations: Data, runtimes: list[Data], assessment: Data, policy: Data) -> Data:
    """The plan of one host; see the contract ``plan`` in docs/architecture.md.

    :arg policy: ``{engine, roads, fall_back, artifact, aio_max_nr, headroom, method}``
    """
    relevant = [r for r in runtimes if assessment["verdicts"][r["id"]] in ("broken", "degraded")]
    by_runtime = {r["id"]: [f for f in assessment["findings"] if f["runtime"] == r["id"]] for r in relevant}
    repairable = [r for r in relevant if any(f["affects"] == "engine" and f["severity"] != "info" for f in by_runtime[r["id"]])]
    blocked = [f for own in by_runtime.values() for f in own if f["affects"] == "configuration" and f["severity"] == "error"]
    plans = [_runtime_plan(r, observations, policy) for r in repairable]
    by_id = {r["id"]: r for r in runtimes}
    reasons = ["%s: %s" % (p["runtime"], p["reason"]) for p in plans]
    if blocked:
        reasons += ["%s: %s (%s)" % (f["where"], f["title"], f["id"]) for f in blocked]

    settings = []
    for plan in plans:
        if plan["road"] == "impossible":
            continue
        runtime = by_id[plan["runtime"]]
        plan["keys"], plan["notes"] = wanted_keys(plan["engine"], runtime["runtime"], runtime["release"], plan["qemu_path"] or None)
        effective = all(runtime["values"].get(key) == value for key, value in plan["keys"].items())
        if plan["qemu_path"] == STAGED or not effective:
            settings.append({"runtimes": [plan["runtime"]], "engine": plan["engine"], "qemu_path": plan["qemu_path"], "method": policy["method"]})

    roads = [p["road"] for p in plans]
    order = ("impossible", "rebuild", "replace", "reuse", "fall_back", "configuration")
    road = next((r for r in order if r in roads), "none")
    if blocked or road == "impossible":
        road, settings = "impossible", []
    native = [by_id[p["runtime"]] for p in plans if p["engine"] == "native"]
    limits = _limits(observations, native, policy) if road != "impossible" else None
    return {
        "needed": bool(plans or blocked),
        "road": road,
        "reasons": reasons,
        "runtimes": plans,
        "qemu": _qemu_to_stage(plans) if road != "impossible" else None,
        "engine": next((p["engine"] for p in plans if p["road"] != "impossible"), None),
        "limits": limits,
        "settings": settings,
    }


def _limits(observations: Data, native: list[Data], policy: Data) -> Data | None:
    """fs.aio-max-nr where the host's is too low for the policy's head-room, never lower than what is set."""
    aio = observations["kernel"]["aio"]
    if not native or aio["max_nr"] is None:
        return None
    need = policy["headroom"] * max(contexts_per_sandbox(r["values"]) for r in native) * EVENTS_PER_CONTEXT
    if aio["free"] >= need:
        return None
    return {"aio_max_nr": max(policy["aio_max_nr"], aio["max_nr"], aio["nr"] + need)}


def _qemu_to_stage(plans: list[Data]) -> Data | None:
    """The QEMU to stage and prove, as the role qemu takes it: a tree where any runtime needs one, else the binary that is reused."""
    if any(p["qemu_path"] == STAGED for p in plans):
        return {"source": "artifact", "path": None}
    reused = next((p["qemu_path"] for p in plans if p["road"] == "reuse"), None)
    return {"source": "existing", "path": reused} if reused else None
