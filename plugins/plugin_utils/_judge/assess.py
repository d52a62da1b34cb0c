# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From observations to findings and verdicts: the only place with policy. PRIVATE to kataops.aio.

Pure functions over plain data; the shapes are in docs/architecture.md.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import RULES
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.releases import refused_arguments
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.requests import block_request

ENGINES = ("threads", "native", "io_uring")

#: Worst last. ``not_applicable`` is a host or runtime without anything to judge.
VERDICTS = ("not_applicable", "ok", "unknown", "degraded", "broken")

#: Sandboxes that must still fit under fs.aio-max-nr; above the kubelet's default of 110 pods a node.
DEFAULT_HEADROOM = 128

_QEMU_STATUS_RULE = {
    "missing": "qemu_missing",
    "not_executable": "qemu_not_executable",
    "foreign_architecture": "qemu_foreign_architecture",
    "timed_out": "qemu_timed_out",
    "crashed": "qemu_crashed",
    "killed": "qemu_killed",
    "not_qemu": "qemu_not_qemu",
    "unintelligible": "qemu_not_qemu",
    "unreadable": "qemu_not_executable",
    "untrusted": "qemu_untrusted",
}

#: With one of these nothing is known of the engine.
_UNKNOWN = ("engine_unknown", "qemu_untrusted")

Data = t.Dict[str, t.Any]


def finding(key: str, runtime: str | None = None, where: str | None = None, evidence: t.Sequence[Data] = (), detail: str | None = None) -> Data:
    """One finding as plain data, from the rule of that key; ``detail`` is what was seen here, in one sentence."""
    rule = RULES[key]
    return {
        "id": rule.id,
        "key": rule.key,
        "severity": rule.severity,
        "affects": rule.affects,
        "runtime": runtime,
        "title": rule.title,
        "detail": detail,
        "why": rule.why,
        "remedy": rule.remedy,
        "where": where,
        "evidence": list(evidence),
    }


def _saw(asked: str, answered: t.Any, by: str = "file") -> Data:
    return {"asked": asked, "answered": str(answered), "by": by}


def qemu_of(observations: Data, path: str | None) -> Data | None:
    """The observation of the QEMU that ``path`` names, or None."""
    for qemu in observations.get("qemus") or []:
        if path and (path in qemu["names"] or path in (qemu["path"], qemu["real_path"])):
            return qemu
    return None


def contexts_per_sandbox(values: Data) -> int:
    """AioContexts, 1024 events each, that a sandbox of this runtime needs when it uses native.

    One for QEMU's main loop and one for each iothread that serves disks (``enable_iothreads``: one; ``indep_iothreads``: that many).
    """
    iothreads = int(values.get("indep_iothreads") or 0)
    if values.get("enable_iothreads"):
        iothreads = max(iothreads, 1)
    return 1 + iothreads


def headroom(observations: Data, values: Data) -> int | None:
    """How many more sandboxes of this runtime can use native, or None where fs.aio-* could not be read."""
    free = observations["kernel"]["aio"]["contexts_free"]
    return None if free is None else free // contexts_per_sandbox(values)


def hot_plug_refused(runtime: Data, qemu: Data) -> list[Data]:
    """The arguments of this runtime's hot-plug requests that this QEMU refuses for their type; empty where that is not known."""
    return refused_arguments(runtime["runtime"], runtime["release"], qemu["version"], runtime["values"].get("block_device_driver"))


def _storage_finding(runtime: Data, engine: Data, observations: Data) -> list[Data]:
    """The storage without O_DIRECT, where QEMU or the probe of the storage met it."""
    refuses = next((storage for storage in observations.get("storage") or [] if storage["o_direct"] is False), None)
    if engine["cause"] == "no_o_direct":
        path = refuses["path"] if refuses else None
        return [finding("storage_without_direct", runtime["id"], path, engine["evidence"] + (refuses["evidence"] if refuses else []), engine["reason"])]
    if refuses:
        return [finding("storage_without_direct", runtime["id"], refuses["path"], refuses["evidence"], refuses["reason"])]
    return []


def _qemu_findings(runtime: Data, qemu: Data | None) -> list[Data]:
    """Findings about the configured binary itself. A QEMU that does not answer leaves nothing else to judge."""
    path = runtime["values"].get("path")
    if qemu is None:
        return [finding("engine_unknown", runtime["id"], path, detail="%s was not observed." % path)]
    if qemu["status"] != "answered":
        return [finding(_QEMU_STATUS_RULE[qemu["status"]], runtime["id"], path, qemu["evidence"], qemu["reason"])]
    found = []
    if qemu["firmware"]["missing"]:
        detail = "Not found: %s." % ", ".join(qemu["firmware"]["missing"])
        asked = _saw("firmware search path of %s" % path, ", ".join(qemu["firmware"]["search_paths"] or []), "command")
        found.append(finding("firmware_missing", runtime["id"], path, [asked], detail))
    refused = hot_plug_refused(runtime, qemu)
    if any(argument["blocks"] for argument in refused) and not runtime["values"].get("disable_block_device_use"):
        detail = "Kata %s sends as a string: %s." % (
            runtime["release"],
            "; ".join("%(name)s of %(of)s (until %(since)s)" % argument for argument in refused),
        )
        asked = [_saw("QMP greeting of %s" % path, qemu["version"], "qmp"), _saw("release of the installation", runtime["release"])]
        found.append(finding("device_add_refused", runtime["id"], path, asked, detail))
    lacking = (qemu["devices_missing"] or []) + (qemu["objects_missing"] or [])
    if lacking and qemu["origin"] != "kata_static":
        found.append(finding("qemu_lacks_devices", runtime["id"], path, [_saw("qom-list-types", "without " + ", ".join(lacking), "qmp")]))
    return found


def _native_findings(runtime: Data, qemu: Data, request: Data, observations: Data) -> list[Data]:
    rid, path, native = runtime["id"], runtime["values"]["path"], qemu["engines"]["native"]
    if native["compiled"] is False:
        return [finding("native_not_compiled", rid, path, native["evidence"], native["reason"])]
    found = []
    if not request["direct"]:
        if runtime["runtime"] == "rs" and request["direct_possible"] is False:
            found.append(finding("rs_native_impossible", rid, runtime["config"]["real_path"], native["evidence"], request["reason"]))
        else:
            found.append(finding("native_without_direct", rid, runtime["config"]["real_path"], native["evidence"], request["reason"]))
    if runtime["runtime"] == "go" and runtime["values"].get("enable_guest_swap"):
        found.append(finding("native_with_guest_swap", rid, runtime["config"]["real_path"]))
    storage = _storage_finding(runtime, native, observations)
    if storage:
        return found + storage
    aio = observations["kernel"]["aio"]
    limit = _saw("fs.aio-nr of fs.aio-max-nr", "%s of %s" % (aio["nr"], aio["max_nr"]))
    if native["outcome"] == "falls_back":
        found.append(finding("aio_falls_back", rid, path, native["evidence"] + [limit], native["reason"]))
    elif native["outcome"] == "refused":
        key = "aio_exhausted" if native["cause"] == "aio_exhausted" else "engine_refused"
        found.append(finding(key, rid, path, native["evidence"] + [limit], native["reason"]))
    elif native["outcome"] != "works":
        found.append(finding("engine_unknown", rid, path, native["evidence"], native["reason"]))
    return found


def _io_uring_findings(runtime: Data, qemu: Data, request: Data, observations: Data) -> list[Data]:
    rid, path, io_uring = runtime["id"], runtime["values"]["path"], qemu["engines"]["io_uring"]
    kernel = observations["kernel"]["io_uring"]
    if io_uring["compiled"] is False:
        return [finding("io_uring_not_compiled", rid, path, io_uring["evidence"], io_uring["reason"])]
    switch = _saw("kernel.io_uring_disabled", kernel["disabled"])
    if io_uring["outcome"] == "works":
        if runtime["values"].get("rootless") and kernel["disabled"] == 1 and kernel["setup_user"]["ok"] is not True:
            return [finding("io_uring_rootless", rid, path, kernel["setup_user"]["evidence"] + [switch])]
        return []
    if kernel["setup_root"]["errno"] == "ENOSYS":
        return [finding("kernel_without_io_uring", rid, path, io_uring["evidence"] + kernel["setup_root"]["evidence"])]
    # Where the storage refused the probe's cache.direct, which this runtime may not send, the engine that served the I/O without it counts.
    if io_uring["cause"] == "no_o_direct" and request["direct"]:
        return _storage_finding(runtime, io_uring, observations)
    if io_uring["cause"] == "no_o_direct" and io_uring["observed"] == "io_uring":
        return []
    if io_uring["outcome"] == "falls_back" or io_uring["observed"] == "threads":
        return [finding("io_uring_falls_back", rid, path, io_uring["evidence"] + [switch], io_uring["reason"])]
    if io_uring["outcome"] == "refused" and io_uring["cause"] != "no_o_direct":
        key = "io_uring_refused" if io_uring["cause"] == "io_uring_refused" else "engine_refused"
        return [finding(key, rid, path, io_uring["evidence"] + [switch], io_uring["reason"])]
    return [finding("engine_unknown", rid, path, io_uring["evidence"], io_uring["reason"])]


def _engine_findings(runtime: Data, qemu: Data, observations: Data, policy: Data) -> list[Data]:
    rid, values = runtime["id"], runtime["values"]
    if values.get("disable_block_device_use"):
        return [finding("block_devices_unused", rid, runtime["sources"].get("disable_block_device_use"))]
    request = block_request(runtime)
    engine = request["engine"]
    found = []
    if request["ignored"] and runtime["runtime"] == "rs":
        found.append(finding("rs_engine_ignored", rid, runtime["config"]["real_path"], detail=request["reason"]))
    if engine == "native":
        found += _native_findings(runtime, qemu, request, observations)
        room = headroom(observations, values)
        if room is not None and room < policy["headroom"] and not any(f["key"] in ("aio_exhausted", "aio_falls_back") for f in found):
            aio = observations["kernel"]["aio"]
            detail = "Room for %d more sandboxes (%d AioContext(s) each); the policy asks for %d." % (room, contexts_per_sandbox(values), policy["headroom"])
            found.append(finding("aio_headroom", rid, "fs.aio-max-nr", [_saw("fs.aio-nr of fs.aio-max-nr", "%s of %s" % (aio["nr"], aio["max_nr"]))], detail))
    elif engine == "io_uring":
        found += _io_uring_findings(runtime, qemu, request, observations)
    elif request["direct"]:
        found += _storage_finding(runtime, qemu["engines"]["threads"], observations)
    if runtime["runtime"] == "go" and values.get("block_device_cache_set"):
        found.append(finding("cache_set_with_files", rid, runtime["sources"].get("block_device_cache_set")))
    wanted = fallback_from(runtime, observations)
    if policy["engine"] == "auto" and wanted not in (None, engine):
        detail = "It was given %s, for no strategy led to %s." % (engine, wanted)
        found.append(finding("fell_back", rid, runtime["sources"]["block_device_aio"], [_saw("the ledger on the host", "in place of %s" % wanted)], detail))
    if policy["engine"] not in ("auto", engine) and engine in ENGINES and not any(f["severity"] == "error" for f in found):
        found.append(finding("engine_differs", rid, runtime["config"]["real_path"], detail="It uses %s; the policy asks for %s." % (engine, policy["engine"])))
    return found


def fallback_from(runtime: Data, observations: Data) -> str | None:
    """The engine that was wanted of a runtime when we gave it another one; None where it has what was wanted, or others have changed it since."""
    source = runtime["sources"].get("block_device_aio")
    return (observations.get("fell_back") or {}).get(source, {}).get(runtime["id"])


def _pinned(runtime: Data, observations: Data) -> list[Data]:
    """A QEMU that we chose for another Kata release than the one that is installed now."""
    source = runtime["sources"].get("path")
    chosen_for = (observations.get("changed_by_us") or {}).get(source, {}).get(runtime["id"])
    if chosen_for is None or runtime["release"] in (None, chosen_for):
        return []
    detail = "%s was chosen for Kata %s; installed is %s." % (runtime["values"].get("path"), chosen_for, runtime["release"])
    return [finding("old_qemu_pinned", runtime["id"], source, [_saw("release of the installation", runtime["release"])], detail)]


def _config_findings(runtime: Data, observations: Data) -> list[Data]:
    config = runtime["config"]
    found = _pinned(runtime, observations)
    for problem in runtime["problems"]:
        found.append(finding(problem["code"], runtime["id"], problem["where"] or config["real_path"], detail=problem["detail"]))
    return found


def asked_engines(runtimes: list[Data], observations: Data) -> dict[str, set[str]]:
    """The engines that the runtimes of each QEMU binary ask for, by every name of the binary."""
    asked: dict[str, set[str]] = {}
    for runtime in runtimes:
        if runtime["hypervisor"] == "qemu":
            path = runtime["values"].get("path")
            qemu = qemu_of(observations, path)
            for name in {path, *(qemu["names"] if qemu else ()), qemu["real_path"] if qemu else path}:
                asked.setdefault(name, set()).add(block_request(runtime)["engine"])
    return asked


def _sandbox_findings(runtimes: list[Data], observations: Data) -> list[Data]:
    """Sandboxes that hold block devices on threads while every runtime of their QEMU asks for something else."""
    sandboxes = observations["sandboxes"]
    asked = asked_engines(runtimes, observations)
    fell_back = [p for p in sandboxes["processes"] if on_threads_unasked(p, asked)]
    old = [p for p in sandboxes["processes"] if p["binary_state"] in ("deleted", "replaced")]
    found = []
    if fell_back:
        seen = "block devices open, %s [aio] mappings, %s io_uring rings (%s of them the event loop's)"
        evidence = [
            _saw("/proc/%d/maps and fd" % p["pid"], seen % (p["aio_contexts"], p["io_uring_rings"], p["event_loop_rings"]), "proc") for p in fell_back[:5]
        ]
        found.append(finding("sandboxes_fell_back", None, None, evidence, "%d of %d sandboxes." % (len(fell_back), sandboxes["total"])))
    if old:
        evidence = [_saw("/proc/%d/exe" % p["pid"], "%s (%s)" % (p["binary"], p["binary_state"]), "proc") for p in old[:5]]
        found.append(finding("sandboxes_old_binary", None, None, evidence, "%d of %d sandboxes." % (len(old), sandboxes["total"])))
    return found


def _untrusted_findings(observations: Data) -> list[Data]:
    """What of Kata's and the CRI's was left alone because others than root control it."""
    return [
        finding("untrusted", None, item["path"], [_saw("owner and mode of all on the way to it", item["reason"])], "%s: %s." % (item["path"], item["reason"]))
        for item in (observations.get("kata") or {}).get("untrusted") or []
    ]


def on_threads_unasked(process: Data, asked: dict[str, set[str]]) -> bool:
    """True where a sandbox has block devices on threads though its QEMU's runtimes all ask for native or io_uring.

    Where the event loop itself waits with io_uring (QEMU 10.2 and newer), a ring tells nothing of the block devices, but native would still show: so a
    sandbox that is to use native and has no AIO context fell back.
    """
    engines = asked.get(process["binary"]) or set()
    if not engines or "threads" in engines:
        return False
    if process["observed"] is None:
        plugged = any(disk["plugged"] == "hot" for disk in process["block_devices_open"] or [])
        return engines == {"native"} and plugged and bool(process["event_loop_rings"]) and process["aio_contexts"] == 0
    return process["observed"] == ["threads"]


def verdict_of(runtime: Data, findings: list[Data]) -> str:
    """The verdict of one runtime from its own findings."""
    if runtime["hypervisor"] not in (None, "qemu"):
        return "not_applicable"
    own = [f for f in findings if f["runtime"] == runtime["id"]]
    if any(f["severity"] == "error" for f in own):
        return "broken"
    if any(f["key"] in _UNKNOWN for f in own):
        return "unknown"
    return "degraded" if any(f["severity"] == "warning" for f in own) else "ok"


def assess(observations: Data, runtimes: list[Data], policy: Data) -> Data:
    """Judge one host.

    :arg policy: ``{engine: auto | native | io_uring | threads, headroom: sandboxes, aio_max_nr: events, ...}``
    :returns: ``{findings: [finding], verdicts: {runtime id: verdict}, verdict}``. A runtime that no handler names is judged, but counts for the
        host only where no runtime has a handler.
    """
    findings: list[Data] = []
    for runtime in runtimes:
        if runtime["hypervisor"] not in (None, "qemu"):
            continue
        own = _config_findings(runtime, observations)
        if not any(f["key"].startswith("base_") for f in own):  # without its base file there are no values to judge
            qemu = qemu_of(observations, runtime["values"].get("path"))
            own += _qemu_findings(runtime, qemu)
            if qemu is not None and qemu["status"] == "answered":
                own += _engine_findings(runtime, qemu, observations, policy)
        findings += own
    findings += _sandbox_findings(runtimes, observations)
    findings += _untrusted_findings(observations)
    if not runtimes:
        findings.append(finding("no_kata"))
    verdicts = {runtime["id"]: verdict_of(runtime, findings) for runtime in runtimes}
    counted = [verdicts[r["id"]] for r in runtimes if r["handlers"]] or list(verdicts.values())
    return {"findings": findings, "verdicts": verdicts, "verdict": max(counted, key=VERDICTS.index, default="not_applicable")}
