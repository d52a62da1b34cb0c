# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From observations to findings and verdicts: the only place with policy. PRIVATE to kataops.aio.

Pure functions over plain data; the shapes are in docs/architecture.md.
"""

from __future__ import annotations

import fnmatch
import re
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import RULES
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.releases import at_least, refused_arguments
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.requests import block_request
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.validate import HYPERVISORS, RS_OPTIONAL

ENGINES = ("threads", "native", "io_uring")

#: Worst last. ``not_applicable`` is a host or runtime without anything to judge.
VERDICTS = ("not_applicable", "ok", "unknown", "degraded", "broken")

#: Sandboxes that must still fit under fs.aio-max-nr; above the kubelet's default of 110 pods a node.
DEFAULT_HEADROOM = 128

#: Tables of ``[hypervisor.NAME]`` that one of Kata's runtimes knows beside QEMU's: their sandboxes do not use QEMU's engines. Any other name is a mistake.
#: (Go: ``config.go``; runtime-rs: ``HYPERVISOR_NAME_*`` of kata-types, and the names of older releases and of the Go runtime's file names.)
OTHER_HYPERVISORS = frozenset([*HYPERVISORS["go"], *HYPERVISORS["rs"], *RS_OPTIONAL, "fc"]) - {"qemu"}

#: The first Linux with io_uring_setup(2).
IO_URING_SINCE = (5, 1)

_LINUX = re.compile(r"(\d+)\.(\d+)")

#: fs.aio-max-nr where no sysctl file sets it (the kernel's own default, fs/aio.c).
DEFAULT_AIO_MAX_NR = 65536

EVENTS_PER_CONTEXT = 1024

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
_UNKNOWN = ("engine_unknown", "qemu_untrusted", "configuration_unknown")

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


def _source(runtime: Data, key: str) -> str | None:
    """The file that a value of a runtime comes from; its base file for a default."""
    source = runtime["sources"].get(key)
    return runtime["config"]["real_path"] if source in (None, "default") else source


def is_another_hypervisor(runtime: Data) -> bool:
    """Whether the runtime starts a hypervisor that Kata knows and that is not QEMU."""
    return runtime["hypervisor"] in OTHER_HYPERVISORS


def is_excluded(runtime: Data, patterns: t.Sequence[str]) -> bool:
    """Whether ``kata_aio_exclude`` leaves a runtime out: all of its handlers match one of the patterns, or its configuration file (by any name) does."""

    def matches(name: str | None) -> bool:
        return name is not None and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    config = runtime["config"]
    handlers = runtime["handlers"]
    return bool(handlers) and all(matches(name) for name in handlers) or any(matches(path) for path in (runtime["id"], config["asked"], config["real_path"]))


def hot_plug_refused(runtime: Data, qemu: Data) -> list[Data]:
    """The arguments of this runtime's hot-plug requests that this QEMU refuses for their type; empty where that is not known."""
    return refused_arguments(runtime["runtime"], runtime["release"], qemu["version"], runtime["values"].get("block_device_driver"))


def _storage_finding(runtime: Data, engine: Data, observations: Data) -> list[Data]:
    """The storage without O_DIRECT, where QEMU or the probe of the storage met it."""
    refuses = next((storage for storage in observations.get("storage") or [] if storage["o_direct"] is False), None)
    if engine["cause"] == "no_o_direct":
        path = refuses["path"] if refuses else runtime["values"]["path"]
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
        searched = _saw("firmware search path of %s" % path, ", ".join(qemu["firmware"]["search_paths"] or []), "command")
        found.append(finding("firmware_missing", runtime["id"], path, [searched], detail))
    refused = hot_plug_refused(runtime, qemu)
    if any(argument["blocks"] for argument in refused):
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
        # What the storage refuses will still be refused when QEMU has the engine. That cache.direct is missing shows only then, and is set with it.
        return [finding("native_not_compiled", rid, path, native["evidence"], native["reason"]), *_storage_finding(runtime, native, observations)]
    found = []
    if not request["direct"] and request["direct_possible"] is not False:
        found.append(finding("native_without_direct", rid, runtime["config"]["real_path"], native["evidence"], request["reason"]))
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


def _has_io_uring(release: str | None) -> bool | None:
    """Whether a kernel of this release (``uname -r``) has io_uring_setup(2) in its source; None where the release does not say."""
    numbers = _LINUX.match(release or "")
    return None if numbers is None else (int(numbers.group(1)), int(numbers.group(2))) >= IO_URING_SINCE


def ring_refusal(kernel: Data) -> str | None:
    """Why this kernel gives QEMU no ring, in one sentence, from what io_uring_setup(2) answered here; None where the call gives no reason."""
    io_uring = kernel["io_uring"]
    setup = io_uring["setup_root"]
    if setup["ok"] is not False:
        return None
    if setup["errno"] == "ENOSYS":
        known = _has_io_uring(kernel["release"])
        if known is False:
            return "Linux %s has no io_uring, which came with 5.1." % kernel["release"]
        since = "Linux %s is new enough for io_uring" % kernel["release"] if known else "io_uring_setup(2) is not there"
        return "%s: a seccomp filter answers ENOSYS, or this kernel was built without CONFIG_IO_URING." % since
    if io_uring["disabled"] == 2:
        return "kernel.io_uring_disabled is 2: nobody may use io_uring."
    if setup["errno"] in ("ENOMEM", "EMFILE", "ENFILE"):
        return "The kernel has no memory or no descriptor for a ring (%s): the limit of locked memory (RLIMIT_MEMLOCK) is the usual one." % setup["errno"]
    switch = "" if io_uring["disabled"] is None else " (kernel.io_uring_disabled is %s)" % io_uring["disabled"]
    return "io_uring_setup(2) answers %s%s: a seccomp filter or a security module forbids it." % (setup["errno"], switch)


def _io_uring_findings(runtime: Data, qemu: Data, request: Data, observations: Data) -> list[Data]:
    """What the engine did in this QEMU decides whether, and how badly, io_uring fails; the kernel's own answer says why."""
    rid, path, io_uring = runtime["id"], runtime["values"]["path"], qemu["engines"]["io_uring"]
    kernel = observations["kernel"]["io_uring"]
    if io_uring["compiled"] is False:
        direct = _storage_finding(runtime, io_uring, observations) if request["direct"] else []
        return [finding("io_uring_not_compiled", rid, path, io_uring["evidence"], io_uring["reason"]), *direct]
    switch = _saw("kernel.io_uring_disabled", kernel["disabled"])
    why = ring_refusal(observations["kernel"])
    detail = " ".join(part for part in (io_uring["reason"], why) if part) or None
    evidence = io_uring["evidence"] + kernel["setup_root"]["evidence"] + [switch]
    if io_uring["outcome"] == "works":
        user = kernel["setup_user"]
        if runtime["values"].get("rootless") and (user["ok"] is False or (kernel["disabled"] == 1 and user["ok"] is None)):
            return [finding("io_uring_rootless", rid, path, user["evidence"] + [switch], user.get("reason"))]
        return []
    # Where the storage refused the probe's cache.direct, which this runtime may not send, the engine that served the I/O without it counts.
    if io_uring["cause"] == "no_o_direct" and request["direct"]:
        return _storage_finding(runtime, io_uring, observations)
    if io_uring["cause"] == "no_o_direct" and io_uring["observed"] == "io_uring":
        return []
    if io_uring["outcome"] == "falls_back" or io_uring["observed"] == "threads":
        return [finding("io_uring_falls_back", rid, path, evidence, detail)]
    if io_uring["outcome"] == "refused" and io_uring["cause"] != "no_o_direct":
        if io_uring["cause"] != "io_uring_refused":
            return [finding("engine_refused", rid, path, io_uring["evidence"] + [switch], io_uring["reason"])]
        too_old = kernel["setup_root"]["errno"] == "ENOSYS" and _has_io_uring(observations["kernel"]["release"]) is False
        return [finding("kernel_without_io_uring" if too_old else "io_uring_refused", rid, path, evidence, detail)]
    return [finding("engine_unknown", rid, path, io_uring["evidence"], io_uring["reason"])]


def _threads_findings(runtime: Data, qemu: Data, request: Data, observations: Data) -> list[Data]:
    """threads works in every QEMU and kernel; what can fail is the image: O_DIRECT, or the folder that holds it."""
    rid, path, threads = runtime["id"], runtime["values"]["path"], qemu["engines"]["threads"]
    if request["direct"]:
        found = _storage_finding(runtime, threads, observations)
        if found:
            return found
    if threads["outcome"] == "works" or threads["cause"] == "no_o_direct":
        return []
    key = "engine_refused" if threads["outcome"] == "refused" else "engine_unknown"
    return [finding(key, rid, path, threads["evidence"], threads["reason"])]


def _kept_away(runtime: Data) -> str:
    """Which block devices ``disable_block_device_use`` keeps away from a sandbox of the Go runtime, and which come all the same.

    Kata's ``container.go`` and ``create.go`` (``checkBlockDeviceSupport``, ``checkAndMount``): 2.5.0 to 4.1.0; block emptyDirs: 4.0.0.
    """
    away = "The container's root file system, bind-mounted block devices and direct-assigned volumes do not reach QEMU as block devices"
    empty = at_least(runtime["release"], "4.0.0")
    more = " and emptyDirs in block mode" if empty else " (and, from Kata 4.0.0, emptyDirs in block mode)" if empty is None else ""
    return "%s; Kubernetes' volumeDevices%s do, with the configured engine." % (away, more)


def _request_findings(runtime: Data, observations: Data, policy: Data) -> list[Data]:
    """What the configuration and the release alone say of block devices: it holds whatever the QEMU is, and whether or not it answers."""
    rid, values, request = runtime["id"], runtime["values"], block_request(runtime)
    base = runtime["config"]["real_path"]
    found = []
    if values.get("disable_block_device_use"):
        where = _source(runtime, "disable_block_device_use")
        if runtime["runtime"] == "rs":
            found.append(finding("rs_block_devices_refused", rid, where))
        else:
            found.append(finding("block_devices_limited", rid, where, detail=_kept_away(runtime)))
    if values.get("rootless"):
        found.append(finding("rootless_block_devices", rid, _source(runtime, "rootless"), [_saw("rootless", values["rootless"])]))
    if request["ignored"] and runtime["runtime"] == "rs":
        found.append(finding("rs_engine_ignored", rid, base, detail=request["reason"]))
    if request["engine"] == "native":
        if runtime["runtime"] == "rs" and request["direct_possible"] is False:
            found.append(finding("rs_native_impossible", rid, base, detail=request["reason"]))
        if runtime["runtime"] == "go" and values.get("enable_guest_swap"):
            found.append(finding("native_with_guest_swap", rid, base))
        found += _limit_findings(runtime, observations, policy)
    if runtime["runtime"] == "go" and values.get("block_device_cache_set"):
        found.append(finding("cache_set_with_files", rid, _source(runtime, "block_device_cache_set")))
    return found


def boot_limit(aio: Data) -> int | None:
    """fs.aio-max-nr as the next boot will leave it, by the sysctl files (the kernel's default where none sets it); None where they could not be read."""
    boot = aio.get("boot")
    if boot is None or boot["reason"]:
        return None
    return DEFAULT_AIO_MAX_NR if not boot["files"] else boot["value"]


def events_needed(values: Data, policy: Data) -> int:
    """Events of fs.aio-max-nr for as many sandboxes of a runtime as the policy wants to fit."""
    return policy["headroom"] * contexts_per_sandbox(values) * EVENTS_PER_CONTEXT


def _limit_findings(runtime: Data, observations: Data, policy: Data) -> list[Data]:
    """Too few events for the sandboxes to come: now, or (where there are enough now) after the next boot."""
    aio, values = observations["kernel"]["aio"], runtime["values"]
    contexts = contexts_per_sandbox(values)
    live = _saw("fs.aio-nr of fs.aio-max-nr", "%s of %s" % (aio["nr"], aio["max_nr"]))
    room = headroom(observations, values)
    if room is not None and room < policy["headroom"]:
        detail = "Room for %d more sandboxes (%d AioContext(s) each); the policy asks for %d." % (room, contexts, policy["headroom"])
        return [finding("aio_headroom", runtime["id"], "fs.aio-max-nr", [live], detail)]
    boot = boot_limit(aio)
    if boot is None or room is None or boot >= events_needed(values, policy):
        return []
    files = aio["boot"]["files"]
    path = files[-1]["path"] if files else None
    detail = "fs.aio-max-nr is %s now; at the next boot %s %d, room for %d sandboxes." % (
        aio["max_nr"],
        "%s sets" % path if path else "no sysctl file sets it, so the kernel's default holds:",
        boot,
        boot // EVENTS_PER_CONTEXT // contexts,
    )
    return [finding("limit_not_persistent", runtime["id"], path or "fs.aio-max-nr", [live, _saw("fs.aio-max-nr in the sysctl files", boot)], detail)]


def _engine_findings(runtime: Data, qemu: Data, observations: Data) -> list[Data]:
    """What the engine that this runtime asks for did in its QEMU, on this host."""
    request = block_request(runtime)
    if request["engine"] == "native":
        return _native_findings(runtime, qemu, request, observations)
    if request["engine"] == "io_uring":
        return _io_uring_findings(runtime, qemu, request, observations)
    return _threads_findings(runtime, qemu, request, observations) if request["engine"] == "threads" else []


def _policy_findings(runtime: Data, observations: Data, policy: Data, found: list[Data]) -> list[Data]:
    """Where a runtime works, but with another engine than the one that is wanted of it."""
    rid, engine = runtime["id"], block_request(runtime)["engine"]
    wanted = fallback_from(runtime, observations)
    if policy["engine"] == "auto":
        if wanted in (None, engine):
            return []
        detail = "It was given %s, for no strategy led to %s." % (engine, wanted)
        return [finding("fell_back", rid, runtime["sources"]["block_device_aio"], [_saw("the journal on the host", "in place of %s" % wanted)], detail)]
    # While something fails, that is what there is to say: the plan leads to the policy's engine anyway.
    if policy["engine"] == engine or engine not in ENGINES or any(f["severity"] == "error" for f in found):
        return []
    return [finding("engine_differs", rid, runtime["config"]["real_path"], detail="It uses %s; the policy asks for %s." % (engine, policy["engine"]))]


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
    """What discovery found in the configuration. What Kata refuses always has an error among them."""
    config = runtime["config"]
    found = _pinned(runtime, observations)
    told_elsewhere = False
    for problem in runtime["problems"]:
        if problem["code"] == "qemu_missing" and qemu_of(observations, runtime["values"].get("path")) is not None:
            told_elsewhere = True  # by the QEMU's own observation
            continue
        found.append(finding(problem["code"], runtime["id"], problem["where"] or config["real_path"], detail=problem["detail"]))
    if runtime.get("refused") and not told_elsewhere and not any(f["severity"] == "error" for f in found):
        told = "; ".join(problem["detail"] or problem["code"] for problem in runtime["problems"]) or None
        found.append(finding("refused", runtime["id"], config["real_path"] or config["asked"], detail=told))
    elif runtime["hypervisor"] not in (None, "qemu") and not is_another_hypervisor(runtime) and not any(f["key"] == "unknown_hypervisor" for f in found):
        found.append(finding("unknown_hypervisor", runtime["id"], config["real_path"], detail="[hypervisor.%s]" % runtime["hypervisor"]))
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


def _sandbox_findings(sandboxes: Data, fell_back: list[Data]) -> list[Data]:
    """Sandboxes that hold block devices on threads unasked (``fell_back``), and those on a QEMU that is not there any more."""
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


def _kvm_findings(kernel: Data) -> list[Data]:
    """No sandbox starts without KVM. It says nothing of block AIO, which is judged and repaired all the same: so it changes no runtime's verdict."""
    kvm = kernel.get("kvm")
    if kvm is None or kvm["usable"] is not False:
        return []
    return [finding("no_kvm", None, "/dev/kvm", kvm["evidence"], kvm["reason"])]


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
    own = [f for f in findings if f["runtime"] == runtime["id"]]
    if any(f["severity"] == "error" for f in own):
        return "broken"
    if is_another_hypervisor(runtime) or any(f["key"] == "excluded" for f in own):
        return "not_applicable"
    if any(f["key"] in _UNKNOWN for f in own):
        return "unknown"
    return "degraded" if any(f["severity"] == "warning" for f in own) else "ok"


def _judge(runtime: Data, observations: Data, policy: Data) -> list[Data]:
    """The findings of one runtime."""
    config = _config_findings(runtime, observations)
    if runtime["hypervisor"] not in (None, "qemu"):
        # Remarks on a configuration that is not QEMU's are nobody's business here; that Kata refuses it is.
        return config if any(f["severity"] == "error" for f in config) else []
    path = runtime["values"].get("path")
    # A file that could not be read leaves no values to judge; one without a hypervisor that can be told names no QEMU
    if any(f["key"].startswith("base_") for f in config) or not path:
        if any(f["severity"] == "error" for f in config):
            return config
        detail = "It is not known which QEMU this runtime starts."
        return [*config, finding("engine_unknown", runtime["id"], runtime["config"]["real_path"] or runtime["id"], detail=detail)]
    qemu = qemu_of(observations, path)
    found = config + _qemu_findings(runtime, qemu)
    if qemu is not None and qemu["status"] == "answered":
        found += _engine_findings(runtime, qemu, observations)
    found += _request_findings(runtime, observations, policy)
    if any(f["key"] in ("aio_exhausted", "aio_falls_back") for f in found):
        found = [f for f in found if f["key"] != "aio_headroom"]  # the limit that is used up is told already
    return found + _policy_findings(runtime, observations, policy, found)


#: The values of block_device_driver whose requests are known. Those of virtio-scsi, the default, are nearest to those of any other.
_PLAYED_DRIVERS = ("virtio-blk", "virtio-blk-pci", "virtio-scsi")


def proof_arguments(runtime: Data, engine: str | None = None) -> Data:
    """The options of kata_aio_proof that play this runtime's requests for a block device, by its values and release.

    :arg engine: the ``block_device_aio`` to prove; by default the one that this runtime and release send. ``None`` members are left to the module.
    """
    values = runtime["values"]
    driver = values.get("block_device_driver")
    return {
        "binary": values.get("path"),
        "runtime": runtime["runtime"] or "go",
        "release": runtime["release"],
        "engine": engine or block_request(runtime)["engine"],
        "cache_set": bool(values.get("block_device_cache_set")),
        "cache_direct": bool(values.get("block_device_cache_direct")),
        "block_device_driver": driver if driver in _PLAYED_DRIVERS else "virtio-scsi",
        "machine_type": values.get("machine_type") or None,
        "seccompsandbox": values.get("seccompsandbox") or None,
    }


def effective_engine(runtime: Data, observations: Data, findings: list[Data]) -> Data:
    """What a runtime asks QEMU for, and what a sandbox that started now would get for its block devices.

    :returns: ``{requested, direct, ignored, effective, reason, verdict}``: the engine and cache.direct that this runtime and release send, whether the release
        ignores ``block_device_aio``, and the engine that QEMU then uses on this host: ``none`` where the device or the sandbox is refused, None where
        that is not known. ``verdict``: of the runtime without the warnings about its configuration that no repair of its engine changes. The others are
        None for another hypervisor.
    """
    verdict = verdict_of(runtime, [f for f in findings if f["affects"] == "engine" or f["severity"] != "warning" or f["key"] in _UNKNOWN])
    if is_another_hypervisor(runtime):
        another = "the hypervisor is %s: QEMU's engines do not apply" % runtime["hypervisor"]
        return {"requested": None, "direct": None, "ignored": None, "effective": None, "reason": another, "verdict": verdict}
    request = block_request(runtime)
    asked = {"requested": request["engine"], "direct": request["direct"], "ignored": request["ignored"]}
    effective, reason = _effective(runtime, observations, findings, request)
    return dict(asked, effective=effective, reason=reason, verdict=verdict)


def _effective(runtime: Data, observations: Data, findings: list[Data], request: Data) -> tuple[str | None, str | None]:
    verdict = verdict_of(runtime, findings)
    if verdict == "not_applicable":
        return None, "left out by kata_aio_exclude"
    qemu = qemu_of(observations, runtime["values"].get("path"))
    if qemu is None or qemu["status"] != "answered":
        return ("none" if verdict == "broken" else None), qemu["reason"] if qemu else "its QEMU was not examined"
    if any(f["runtime"] == runtime["id"] and f["key"] == "rs_block_devices_refused" for f in findings):
        return "none", "runtime-rs refuses block devices with disable_block_device_use = true"
    if request["engine"] not in ENGINES:
        return "none", "%s is not an engine" % request["engine"]
    engine = qemu["engines"][request["engine"]]
    if engine["outcome"] == "falls_back":
        return "threads", engine["reason"]
    if engine["cause"] == "no_o_direct" and not request["direct"] and request["engine"] != "native":
        observed = "threads" if request["engine"] == "threads" else engine["observed"]
        return observed, "the storage refuses O_DIRECT, which this runtime does not ask for"
    if engine["outcome"] in ("not_compiled", "refused"):
        return "none", engine["reason"]
    if engine["outcome"] != "works":
        return None, engine["reason"] or "QEMU did not say"
    if verdict == "broken":
        # QEMU can, and yet this runtime fails: a missing cache key, a refused configuration, missing firmware. The findings tell which.
        return "none", request["reason"] or "this QEMU could; the findings say what stands in its way"
    return request["engine"], request["reason"] if request["ignored"] else None


def assess(observations: Data, runtimes: list[Data], policy: Data) -> Data:
    """Judge one host.

    :arg policy: ``{engine: auto | native | io_uring | threads, headroom: sandboxes, aio_max_nr: events, exclude: [patterns], ...}``
    :returns: ``{findings: [finding], verdicts: {runtime id: verdict}, verdict, engines: {runtime id: effective_engine}, silent_fallbacks}``. A runtime
        that no handler names is judged, but counts for the host only where no runtime has a handler.
    """
    findings: list[Data] = []
    for runtime in runtimes:
        if is_excluded(runtime, policy.get("exclude") or ()):
            findings.append(finding("excluded", runtime["id"], runtime["id"], detail="Handlers: %s." % (", ".join(runtime["handlers"]) or "none")))
        else:
            findings += _judge(runtime, observations, policy)
    asked = asked_engines(runtimes, observations)
    fell_back = [process for process in observations["sandboxes"]["processes"] if on_threads_unasked(process, asked)]
    findings += _sandbox_findings(observations["sandboxes"], fell_back)
    findings += _untrusted_findings(observations)
    if not runtimes:
        findings.append(finding("no_kata"))
    elif not all(is_another_hypervisor(runtime) for runtime in runtimes):
        findings += _kvm_findings(observations["kernel"])
    verdicts = {runtime["id"]: verdict_of(runtime, findings) for runtime in runtimes}
    counted = [verdicts[r["id"]] for r in runtimes if r["handlers"]] or list(verdicts.values())
    return {
        "findings": findings,
        "verdicts": verdicts,
        "verdict": max(counted, key=VERDICTS.index, default="not_applicable"),
        "engines": {runtime["id"]: effective_engine(runtime, observations, findings) for runtime in runtimes},
        "silent_fallbacks": len(fell_back),
    }
