# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From findings and policy to the cheapest sufficient steps. PRIVATE to kataops.aio.

Pure functions over plain data; the shapes are in docs/architecture.md. A plan is a proposal: each strategy is proved on the host before the switch, and
where one fails there, the next of the plan's alternatives is tried that does not use what failed. Each runtime is planned for by itself: one that only a
person can repair, or that no strategy is left for, is named (``remaining``) and does not keep the others from being repaired.
"""

from __future__ import annotations

import json
import posixpath
import re
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import (
    boot_limit,
    events_needed,
    fallback_from,
    hot_plug_refused,
    proof_arguments,
    qemu_of,
)
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import RULES
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.requests import block_request, can_use
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.settings import wanted_keys

#: Cheapest first; ``fallback`` comes after all of them and only where the user allows it.
STRATEGIES = ("configuration", "reuse", "replace", "rebuild")

#: As ``qemu_path``: the binary of the QEMU that the stage phase brings, whose path is known only then.
STAGED = ""

#: The most expensive first: the strategy of a host with several runtimes.
COSTS = ("impossible", "rebuild", "replace", "reuse", "fallback", "configuration")

#: A host with several runtimes could have many combinations of their strategies; more than these are not tried.
MOST_WAYS = 8

#: A Kata release as it is published; QEMU is taken out of it on the builder.
KATA_STATIC = re.compile(r"kata-static-(?P<release>\d[^/]*?)-(?P<architecture>[a-z0-9_]+)\.tar\.(?:xz|zst|gz)\Z")
_KATA_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}

Data = t.Dict[str, t.Any]


def target_engine(runtime: Data, observations: Data, policy: Data) -> str:
    """The engine that the runtime should use: the policy's, else the one that it asks for, unless the host can never give that one.

    What a runtime asks for since we fell back is not what is wanted of it.
    """
    if policy["engine"] != "auto":
        return policy["engine"]
    asked = fallback_from(runtime, observations) or block_request(runtime)["engine"]
    if asked == "threads":
        return "threads"
    if asked == "io_uring" and kernel_allows_io_uring(runtime, observations):
        return "io_uring"
    return "native"


def kernel_allows_io_uring(runtime: Data, observations: Data) -> bool:
    """Whether the kernel lets this runtime's QEMU (root, or an ordinary user where ``rootless``) set up a ring: by what its QEMU met, then by the call."""
    qemu = qemu_of(observations, runtime["values"].get("path"))
    if qemu is not None and qemu["status"] == "answered" and qemu["engines"]["io_uring"]["cause"] == "io_uring_refused":
        return False
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


def takes_disks(runtime: Data, qemu: Data) -> bool:
    """Whether this QEMU takes the runtime's requests for block devices (not whether it takes those for vCPUs)."""
    return not any(argument["blocks"] for argument in hot_plug_refused(runtime, qemu))


def reusable(observations: Data, engine: str, runtime: Data) -> list[Data]:
    """Other QEMUs of this host that serve the engine and this runtime's requests: our trees first, then complete ones of the distribution."""
    besides = runtime["values"]["path"]
    rank = {"kataops": 0, "kata_static": 1, "distribution": 2}
    fit = [
        qemu
        for qemu in observations["qemus"]
        if besides not in qemu["names"] and qemu["origin"] in rank and serves(qemu, engine) and (qemu["origin"] == "kata_static" or complete(qemu))
    ]
    fit = [qemu for qemu in fit if not hot_plug_refused(runtime, qemu)]
    return sorted(fit, key=lambda qemu: (rank[qemu["origin"]], qemu["path"]))


def best_engine(runtime: Data, qemu: Data | None, observations: Data) -> str | None:
    """The best engine that works with what is there now: io_uring, else threads."""
    if qemu is None or qemu["status"] != "answered" or not takes_disks(runtime, qemu):
        return None
    for engine in ("io_uring", "threads"):
        usable = qemu["engines"][engine]["usable"] and can_use(runtime, engine)
        if usable and (engine == "threads" or kernel_allows_io_uring(runtime, observations)):
            return engine
    return None


def _replacements(observations: Data, policy: Data) -> t.Iterator[tuple[Data, str]]:
    """What the strategy replace can bring to this host, and why it is offered: the artifact that is named, and the distribution's package where allowed."""
    artifact = policy.get("artifact")
    if artifact:
        named = KATA_STATIC.match(posixpath.basename(artifact))
        given = {"artifact": artifact, "sha256": policy.get("artifact_sha256")}
        if named is None:
            yield dict(given, source="artifact", key="replace with %s" % artifact), "an artifact is given: %s" % artifact
        elif _KATA_ARCHITECTURES.get(named["architecture"], named["architecture"]) == observations["host"]["architecture"]:
            release, architecture = named["release"], observations["host"]["architecture"]
            bring = dict(given, source="build", kind="kata_static", build="kata-static-%s-%s" % (release, architecture), release=release)
            yield dict(bring, key="replace with the QEMU of Kata %s" % release), "the QEMU of Kata %s is taken out of %s" % (release, artifact)
    if policy.get("package"):
        yield {"source": "package", "key": "replace with the distribution's package"}, "the distribution's package may be installed"


def _options(runtime: Data, observations: Data, policy: Data) -> tuple[list[Data], str | None]:
    """Everything that could repair one runtime, the cheapest first by the user's order of strategies; and why there is nothing where there is not.

    An option is ``{runtime, engine, strategy, key, qemu_path, qemu, reason, requested_engine}``; ``qemu`` is what the stage phase has to bring or prove.
    """
    engine = target_engine(runtime, observations, policy)
    path = runtime["values"]["path"]
    qemu = qemu_of(observations, path)
    base: Data = {"runtime": runtime["id"], "engine": engine, "qemu_path": None, "qemu": None, "requested_engine": None}
    options: list[Data] = []
    closed = None
    if not can_use(runtime, engine):
        closed = "%s %s cannot use %s" % (runtime["runtime"] or "this runtime", runtime["release"] or "(release unknown)", engine)
    elif not storage_allows(engine, observations):
        closed = "the storage refuses O_DIRECT, which %s needs" % engine
    else:
        for strategy in policy["strategies"]:
            if strategy == "configuration" and qemu is not None and serves(qemu, engine) and takes_disks(runtime, qemu):
                options.append(dict(base, strategy=strategy, key="configuration with %s" % path, reason="%s has %s" % (path, engine)))
            elif strategy == "reuse":
                for other in reusable(observations, engine, runtime):
                    bring = {"source": "existing", "path": other["path"], "key": "reuse of %s" % other["path"]}
                    reason = "%s has %s and all that Kata needs" % (other["path"], engine)
                    options.append(dict(base, strategy=strategy, key=bring["key"], qemu_path=other["path"], qemu=bring, reason=reason))
            elif strategy == "replace":
                for bring, reason in _replacements(observations, policy):
                    options.append(dict(base, strategy=strategy, key=bring["key"], qemu_path=STAGED, qemu=bring, reason=reason))
            elif strategy == "rebuild":
                bring = {"source": "build", "kind": "rebuild", "build": "rebuild-%s" % observations["host"]["architecture"], "key": "rebuild"}
                reason = "no QEMU of this host has %s and all that Kata needs" % engine
                options.append(dict(base, strategy=strategy, key="rebuild", qemu_path=STAGED, qemu=bring, reason=reason))
    closed = closed or "none of the allowed strategies (%s) leads to %s" % (", ".join(policy["strategies"]), engine)
    instead = best_engine(runtime, qemu, observations)
    if policy["allow_fallback"] and instead not in (None, engine):
        reason = "%s; %s works here" % (closed if not options else "where no strategy leads to %s" % engine, instead)
        options.append(dict(base, strategy="fallback", key="fall back to %s" % instead, engine=instead, requested_engine=engine, reason=reason))
    return options, closed


def _price(runtime: Data, keys: Data) -> str | None:
    """What a runtime loses by the keys that it is given, in one sentence; None where it loses nothing."""
    if runtime["runtime"] == "rs" or keys.get("block_device_cache_set") is not True or runtime["values"].get("block_device_cache_set") is True:
        return None
    rule = RULES["cache_set_with_files"]
    return "%s (%s); block devices are not affected" % (rule.title, rule.id)


def _keys(runtime: Data, option: Data) -> tuple[Data, list[str], bool]:
    """The keys that an option gives a runtime, the remarks on them, and whether its configuration has to be written for that."""
    keys, notes = wanted_keys(option["engine"], runtime["runtime"], runtime["release"], option["qemu_path"] or None)
    effective = all(runtime["values"].get(key) == value for key, value in keys.items())
    return keys, notes, option["qemu_path"] == STAGED or not effective


def _writable(runtime: Data, options: list[Data], method: str) -> tuple[list[Data], str | None]:
    """The options that do not end at a configuration that cannot be written, and what such a host can take instead, where that leaves none.

    Images (ostree, NixOS' store, a read-only /usr) and immutable files are written by whoever makes the image, never at run time.
    """
    read_only = runtime.get("read_only") or {}
    drop_in = method == "drop_in" or (method == "auto" and runtime["drop_in"]["safe"])
    reason = read_only.get("drop_in" if drop_in else "base_file")
    if reason is None:
        return options, None
    left = [option for option in options if not _keys(runtime, option)[2]]
    if left or not options:
        return left, None
    keys = dict(_keys(runtime, options[0])[0])
    if options[0]["qemu_path"] == STAGED:
        keys["path"] = "the QEMU that %s" % options[0]["key"].replace("rebuild", "a rebuild makes")
    return [], _for_the_image(runtime, reason, keys)


def _for_the_image(runtime: Data, reason: str, keys: Data) -> str:
    """What to do by hand where a configuration cannot be written, with the text to put in."""
    base, folder = runtime["config"]["real_path"], runtime["config_dir"]["path"]
    lines = ", ".join("%s = %s" % (key, json.dumps(value)) for key, value in keys.items())
    there = "to %s" % base if not runtime["drop_in"]["safe"] else "as %s/60-kataops-aio.toml, or to %s" % (folder, base)
    text = "%s cannot be written: %s. Add, in what this host's image is made from, %s, below [hypervisor.qemu]: %s" % (base, reason, there, lines)
    override = (runtime.get("read_only") or {}).get("override")
    with_drop_ins = ", with all that its config.d sets" if runtime["config_dir"].get("drop_ins") else ""
    if override:
        text += ". Or copy %s to %s%s, which this runtime reads first, and set the keys there" % (base, override, with_drop_ins)
    elif runtime["config"]["how"] == "config_path":
        text += ". Or copy it to a folder that can be written%s, set the keys there, and name the copy with ConfigPath in the handler" % with_drop_ins
    return text


def _way(runtimes: list[Data], options: dict[str, list[Data]], without: frozenset[str], observations: Data, policy: Data) -> Data | None:
    """The cheapest way to repair these runtimes without what has failed, as far as they can be; None where none of them can."""
    plans, settings, repaired, left_out = [], [], [], []
    for runtime in runtimes:
        option = next((o for o in options[runtime["id"]] if o["key"] not in without), None)
        if option is None:
            left_out.append(runtime)
            continue
        repaired.append(runtime)
        keys, notes, to_write = _keys(runtime, option)
        will_be = dict(runtime["values"], **keys)
        proof = proof_arguments(dict(runtime, values=will_be), option["engine"])
        if option["qemu_path"] == STAGED:
            proof["binary"] = STAGED
        plans.append(dict(option, keys=keys, notes=notes, price=_price(runtime, keys), proof=proof))
        if to_write:
            wish = {"runtimes": [runtime["id"]], "engine": option["engine"], "qemu_path": option["qemu_path"], "method": policy["method"]}
            settings.append(dict(wish, requested_engine=option["requested_engine"]) if option["requested_engine"] else wish)
    if not plans:
        return None
    strategies = [p["strategy"] for p in plans]
    native = [r for r, p in zip(repaired, plans) if p["engine"] == "native"]
    staged = [p for p in plans if p["qemu_path"] == STAGED] or [p for p in plans if p["qemu"]]
    first = staged[0] if staged else None
    return {
        "strategy": next((strategy for strategy in COSTS if strategy in strategies), "none"),
        "uses": sorted({p["key"] for p in plans}),
        "reasons": ["%s: %s" % (p["runtime"], p["reason"]) for p in plans],
        "runtimes": [{key: value for key, value in p.items() if key != "qemu"} for p in plans],
        "qemu": first["qemu"] if first else None,
        "engine": (first or plans[0])["engine"],
        "limits": _limits(observations, native, policy),
        "settings": settings,
        "remaining": [_remains(runtime, "no other strategy is left for it") for runtime in left_out],
        "prices": sorted({p["price"] for p in plans if p["price"]}),
    }


def _remains(runtime: Data, reason: str) -> Data:
    """A runtime that stays as it is, and why."""
    return {"runtime": runtime["id"], "handlers": runtime["handlers"], "reason": reason}


def _ways(runtimes: list[Data], options: dict[str, list[Data]], observations: Data, policy: Data) -> list[Data]:
    """Every way, the cheapest first: the next ones leave out one more of the things that those before them use. Those that repair every runtime come first."""
    found: list[Data] = []
    waiting: list[frozenset[str]] = [frozenset()]
    seen = set(waiting)
    while waiting and len(found) < MOST_WAYS:
        without = waiting.pop(0)
        way = _way(runtimes, options, without, observations, policy)
        if way is None:
            continue
        if way["uses"] not in [other["uses"] for other in found]:
            found.append(way)
        for key in way["uses"]:
            more = without | {key}
            if more not in seen:
                seen.add(more)
                waiting.append(more)
    return sorted(found, key=lambda way: len(way["remaining"]))


def _for_a_person(own: list[Data]) -> str | None:
    """Why no repair of the engine would make a runtime work, from its findings; None where one would."""
    blocking = [f for f in own if f["affects"] == "configuration" and f["severity"] == "error"]
    return "; ".join("%s: %s (%s)" % (f["where"], f["title"], f["id"]) for f in blocking) or None


def make_plan(observations: Data, runtimes: list[Data], assessment: Data, policy: Data) -> Data:
    """The plan of one host; see the contract ``plan`` in docs/architecture.md.

    :arg policy: ``{engine, strategies, allow_fallback, artifact, artifact_sha256, package, aio_max_nr, headroom, method, exclude}``
    """
    repairable, remaining = [], []
    options: dict[str, list[Data]] = {}
    for runtime in runtimes:
        own = [f for f in assessment["findings"] if f["runtime"] == runtime["id"]]
        if assessment["verdicts"][runtime["id"]] not in ("broken", "degraded"):
            continue
        reason = _for_a_person(own)
        if reason is None and any(f["affects"] == "engine" and f["severity"] != "info" for f in own):
            options[runtime["id"]], closed = _options(runtime, observations, policy)
            options[runtime["id"]], unwritable = _writable(runtime, options[runtime["id"]], policy["method"])
            reason = None if options[runtime["id"]] else unwritable or closed
            if reason is None:
                repairable.append(runtime)
        if reason is not None:
            remaining.append(_remains(runtime, reason))
    ways = _ways(repairable, options, observations, policy)
    reasons = ["%s: %s" % (runtime["id"], options[runtime["id"]][0]["reason"]) for runtime in repairable]
    reasons += [_reason_line(item) for item in remaining]
    if not ways:
        nothing: Data = {"uses": [], "runtimes": [], "qemu": None, "engine": None, "limits": None, "settings": [], "remaining": [], "prices": []}
        ways = [dict(nothing, strategy="impossible" if remaining else "none")]
    ways = [dict(way, remaining=remaining + way["remaining"]) for way in ways]
    return dict(ways[0], needed=bool(repairable or remaining), reasons=reasons, alternatives=ways[1:])


def _reason_line(item: Data) -> str:
    who = "%s (%s)" % (item["runtime"], ", ".join(item["handlers"])) if item["handlers"] else item["runtime"]
    return "%s stays as it is: %s" % (who, item["reason"])


def _limits(observations: Data, native: list[Data], policy: Data) -> Data | None:
    """fs.aio-max-nr where the host's is too low for the policy's headroom, now or after the next boot; never lower than what is set."""
    aio = observations["kernel"]["aio"]
    if not native or aio["max_nr"] is None:
        return None
    need = max(events_needed(r["values"], policy) for r in native)
    boot = boot_limit(aio)
    if aio["free"] >= need and (boot is None or boot >= need):
        return None
    return {"aio_max_nr": max(policy["aio_max_nr"], aio["max_nr"], aio["nr"] + need)}
