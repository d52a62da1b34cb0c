# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of a host → the Kata runtimes that it has, with their effective values. Pure. PRIVATE to kataops.aio.

Input is the contract ``kata``, output the contract ``runtimes`` of docs/architecture.md. Besides the codes of ``_kata_toml`` a runtime may have:

=========================== ==========================================================================================================
``kata_conf_file_rejected`` Kata 4.0.0 and later refuses this ``KATA_CONF_FILE``: it resolves to none of the default paths
``conf_file_unknown``       a wrapper sets ``KATA_CONF_FILE`` in a way that only a shell can tell
``shim_missing``            the handler's shim is not there: no sandbox of it can start
``shims_differ``            handlers that share this base file have shims of different releases
``cri_toml_invalid``        a configuration file of the CRI is not TOML (told with every runtime of that CRI)
``cri_template``            a template of the CRI's configuration was read without its template lines
``cri_unreadable``          a configuration file of the CRI could not be read
``limits``                  the host has more configuration than is looked at
=========================== ==========================================================================================================
"""

from __future__ import annotations

import posixpath
import re

from ansible_collections.kataops.aio.plugins.module_utils._kata import places as kata_places
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import documents as kata_host
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import effective as kata_toml
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import handlers as wiring
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

# What a missing key of [hypervisor.qemu] means. For block_device_aio and block_device_driver see _defaults().
DEFAULTS = {
    "path": releases.DEFAULT_QEMU_PATH,
    "block_device_cache_set": False,
    "block_device_cache_direct": False,
    "block_device_cache_noflush": False,
    "disable_block_device_use": False,
    "enable_iothreads": False,
    "enable_guest_swap": False,
    "enable_annotations": [],
    "firmware": "",
}

# The values that judging, planning and the report look at: these of a runtime's, and whatever a drop-in sets. A shipped configuration has about 70.
KEPT = frozenset(DEFAULTS) | {"block_device_aio", "block_device_driver", "indep_iothreads", "machine_type", "rootless", "seccompsandbox"}

_BASE_NAME = re.compile(r"configuration.*\.toml$")


def _defaults(kind, release):
    before_the_key = kind == "go" and releases.at_least(release, "3.0.0") is False  # QEMU's own default, then
    aio = releases.engine_support(kind, release)["always"] if kind == "rs" else "threads" if before_the_key else None
    return dict(DEFAULTS, block_device_aio=aio or releases.DEFAULT_AIO, block_device_driver=releases.default_driver(kind, release))


def _drop_in_sources(host, folder):
    """The entries of a config.d as :func:`_kata_toml.effective` wants them, in the order in which they count."""
    record = host.kata["config_dirs"].get(folder) or {"entries": []}
    found = []
    for entry in record["entries"]:
        document = host.documents.get(entry["document"]) if entry["document"] else None
        source = {
            "name": entry["name"],
            "path": posixpath.join(folder, entry["name"]),
            "kind": entry["kind"],
            "text": None,
            "reason": entry["reason"],
            "sha256": None,
        }
        if document is not None:
            source.update(text=host.text(entry["document"]), reason=document["reason"], sha256=document["sha256"])
        if entry["kind"] == "symlink":
            source.update(target=entry["target"], target_kind=document["kind"] if document else "missing")
        found.append(source)
    return sorted(found, key=lambda source: kata_host.name_bytes(source["name"]))


def _config_dir_problems(record, path):
    if record is None or record["kind"] == "missing":
        return []
    if record["kind"] == "dangling":
        return [{"code": "config_dir_dangling", "where": path, "detail": record["reason"]}]
    if record["kind"] != "directory":
        return [{"code": "config_dir_not_a_folder", "where": path, "detail": "it is a %s" % record["kind"]}]
    if record["reason"]:
        return [{"code": "config_dir_unreadable", "where": path, "detail": record["reason"]}]
    return []


def _bases_beside(host, folder):
    """The base files (real paths) that read a config.d: those in its parent folder, and in any other whose config.d is the same by a link."""
    here = (host.kata["config_dirs"].get(folder) or {}).get("real_path")
    parents = {posixpath.dirname(folder)} | {
        posixpath.dirname(path) for path, record in host.kata["config_dirs"].items() if here and record["real_path"] == here
    }
    return sorted(
        real
        for real, document in host.documents.items()
        if posixpath.dirname(real) in parents and document["kind"] == "regular" and (_BASE_NAME.match(posixpath.basename(real)) or _hypervisors_of(host, real))
    )


def _base_alone(host, real, runtime, release=None):
    """A base file by a runtime's rules, without drop-ins."""
    key = (real, runtime, release)
    if key not in host.memo:
        host.memo[key] = kata_toml.effective(host.source(real), (), runtime, release)
    return host.memo[key]


def _hypervisors_of(host, real):
    return _base_alone(host, real, "go")["hypervisors"]


def _is_rs(host, real):
    """Is this a configuration file of runtime-rs, by its place or by the key that only its files have?"""
    table = _base_alone(host, real, "rs")["document"].get("runtime")
    return "/runtime-rs/" in real or (isinstance(table, dict) and "hypervisor_name" in table)


def _drop_in_unsafe(host, runtime, base_values, rules):
    """Why no drop-in with keys of [hypervisor.qemu] may be written beside a runtime's base file, or ``None``. ``rules``: whose rules hold there."""
    directory, release = runtime["config_dir"], runtime["release"]
    if runtime["hypervisor"] != "qemu":
        return "its hypervisor is %s, not QEMU" % (runtime["hypervisor"] or "not to be told")
    if directory["kind"] not in ("directory", "missing"):
        return "%s is a %s, not a folder" % (directory["path"], "dangling symlink" if directory["kind"] == "dangling" else directory["kind"])
    if runtime["runtime"] is None:
        return "it is not known which of Kata's runtimes reads it: %s" % runtime["runtime_reason"]
    supported = releases.drop_ins_supported(runtime["runtime"], release)
    if supported is False:
        return "Kata %s does not read config.d" % release
    if runtime["runtime"] == "go" and releases.at_least(release, "3.0.0") is False:
        return "the Go runtime of Kata %s refuses a drop-in with block_device_aio (the key came with 3.0.0)" % release
    if supported is None and "block_device_aio" not in base_values:
        return "Kata's release is unknown, and nothing shows that it reads config.d and knows block_device_aio"
    others = [real for real in directory["shared_with"] if _hypervisors_of(host, real) != ["qemu"]]
    if others:
        names = ", ".join(posixpath.basename(real) for real in others[:3]) + (" and %d more" % (len(others) - 3) if len(others) > 3 else "")
        harm = {
            "go": "the Go runtime would take one of two hypervisors at random",
            "rs": "runtime-rs checks every hypervisor's table, and would refuse all sandboxes of theirs for our incomplete one",
        }[rules]
        return "%s is shared with base files that are not QEMU's (%s): %s" % (directory["path"], names, harm)
    return None


def _read_only(host, found, path, folder):
    """Why no file can be written where a runtime's configuration lies, and where one of the same content would be read instead."""
    places = host.kata.get("read_only") or {}
    override = None
    if found["how"] == "default" and "/etc/kata-containers" not in places:
        first = wiring.defaults_of(host, found["kind"], found["release"], found["shim"])[0]
        free = host.resolve(first) != first  # nothing is there, or a link that a copy can replace
        override = first if first.startswith("/etc/") and free else None
    return {"base_file": places.get(path), "drop_in": places.get(folder), "override": override}


def read_runtime(host, path, kind, release):
    """What a runtime makes of a base file and its config.d.

    :returns: the members ``hypervisor, values, sources, problems, refused, unknown`` of the contract ``runtime``.
    """
    folder = posixpath.join(posixpath.dirname(path), "config.d")
    record = host.kata["config_dirs"].get(folder)
    merged = kata_toml.effective(host.source(path), _drop_in_sources(host, folder), kind, release, host.file)
    values = {key: value for key, value in merged["values"].items() if key in KEPT or merged["sources"][key] != path}
    origins = {key: merged["sources"][key] for key in values}
    if merged["hypervisor"] == "qemu":
        for key, value in _defaults(kind, release).items():
            if key not in values:
                values[key], origins[key] = value, "default"
            elif key in ("path", "block_device_aio", "block_device_driver") and values[key] == "":
                values[key] = value
        if kind == "rs" and values["disable_block_device_use"] is True:  # it then neither defaults nor checks these two
            values.update(block_device_driver="", block_device_aio=merged["values"].get("block_device_aio", ""))
    problems = _config_dir_problems(record, folder) + merged["problems"]
    refused = merged["refused"] or any(problem["code"] == "config_dir_not_a_folder" for problem in problems)
    unknown = merged["unknown"]
    if record is not None and record["kind"] == "directory" and record["reason"]:
        unknown = unknown or "%s: its drop-ins are not known: %s" % (folder, record["reason"])
    return {
        "hypervisor": merged["hypervisor"],
        "values": values,
        "sources": origins,
        "problems": problems,
        "refused": refused,
        "unknown": None if refused else unknown,
    }


def _runtime(host, found):
    """The contract ``runtime`` of one base file and runtime kind, still without ``drop_in``; and the values of the base file alone."""
    real = found["real"]
    path = real or found["asked"]
    folder = posixpath.join(posixpath.dirname(path), "config.d")
    record = host.kata["config_dirs"].get(folder)
    kind = found["kind"] or "go"
    read = read_runtime(host, path, kind, found["release"])
    rejected = any(problem["code"] == "kata_conf_file_rejected" for problem in found["problems"])
    document = host.documents.get(real) or {}
    return {
        "id": path,
        "handlers": found["handlers"],
        "cri": found["cri"],
        "runtime": found["kind"],
        "runtime_reason": found["kind_reason"],
        "release": found["release"],
        "release_source": found["release_source"],
        "shim": found["shim"],
        "config": dict({key: document.get(key) for key in ("sha256", "mode", "uid", "gid")}, asked=found["asked"], real_path=real, how=found["how"]),
        "config_dir": {
            "path": folder,
            "exists": bool(record and record["kind"] == "directory"),
            "kind": record["kind"] if record else "missing",
            "drop_ins": [{key: source[key] for key in ("name", "path", "kind", "sha256")} for source in _drop_in_sources(host, folder)],
            "shared_with": [other for other in _bases_beside(host, folder) if other != real],
        },
        "read_only": _read_only(host, found, path, folder),
        "hypervisor": read["hypervisor"],
        "values": read["values"],
        "sources": read["sources"],
        "problems": found["problems"] + read["problems"],
        "refused": read["refused"] or rejected,
        "unknown": None if rejected else read["unknown"],
    }, _base_alone(host, path, kind, found["release"])["values"]


def _with_handlers(host, wanted):
    """What the CRIs' handlers lead to, by ``(real or asked path, runtime kind)``."""
    found = {}
    for handler in wiring.handlers(host, wanted):
        wired = wiring.wire(host, handler, wanted)
        if wired["kind"] is None and wired["real"] and _is_rs(host, wired["real"]):
            wired.update(kind="rs", kind_reason="%s is a configuration file of runtime-rs" % wired["real"])
        problems = wired.pop("problems")
        entry = found.setdefault((wired["real"] or wired["asked"], wired["kind"]), dict(wired, handlers=[], cri=[], problems=[]))
        if wired["release"] != entry["release"]:
            problems.append(
                {
                    "code": "shims_differ",
                    "where": wired["shim"] or handler["handler"],
                    "detail": "handler %s is of release %s, the others of %s" % (handler["handler"], wired["release"], entry["release"]),
                }
            )
        for key, value in (("handlers", handler["handler"]), ("cri", handler["cri"])):
            if value not in entry[key]:
                entry[key].append(value)
        entry["problems"] += [problem for problem in problems if problem not in entry["problems"]]
    return found


def _without_handlers(host, found):
    """Add base files that no handler names: the first that exists of each runtime's default places (what ``kata-runtime`` and ``ctr`` use), and
    those that the user named."""
    places = []
    tried = [("go", ["%s/configuration.toml" % folder for folder in (kata_places.OVERRIDES, place.folder)]) for place in kata_places.PLACES]
    for kind, paths in [*tried, ("rs", releases.default_configurations("rs", None))]:
        existing = [path for path in paths if host.resolve(path)]
        places += [(kind, path, "default") for path in existing[:1] if (kind, path, "default") not in places]
    for path in host.named(host.kata["extra_files"]):
        if host.resolve(path) and posixpath.basename(posixpath.dirname(path)) != "config.d" and _hypervisors_of(host, host.resolve(path)):
            places.append(("go", path, "named"))
    for place, path, how in places:
        real = host.resolve(path)
        kind = "rs" if _is_rs(host, real) else place  # runtime-rs 3.0 to 3.2 used the Go runtime's names
        if any(key[0] == real and key[1] in (kind, None) for key in found):
            continue
        shim = kata_host.installed_shim(host, kind, path.split(kata_host.SHARE, 1)[0] if kata_host.SHARE in path else None)
        release, source = kata_host.release_of(host, shim, path)
        found[real, kind] = {
            "asked": path,
            "how": how,
            "real": real,
            "kind": kind,
            "kind_reason": "the place and content of its configuration file",
            "release": release,
            "release_source": source,
            "shim": shim,
            "handlers": [],
            "cri": [],
            "problems": [],
        }


def discover(kata):
    """The Kata runtimes of a host.

    :arg kata: what the host sent (contract ``kata``).
    :returns: a list of ``runtime`` (contract), those with handlers first, each in the order of their base files.
    """
    return look(kata)[0]


def missing_documents(kata):
    """What the parse needs and the host has not sent: paths, patterns, shims and config.d folders for ``collect(wanted=…)``, or an empty list."""
    return look(kata)[1]


def look(kata):
    """``(runtimes, missing)``: what :func:`discover` and :func:`missing_documents` tell, from one walk over the host's documents.

    Where something is missing, the runtimes are those of what was sent.
    """
    host, wanted = kata_host.Host(kata), []
    found = _with_handlers(host, wanted)
    for entry in found.values():
        folder = posixpath.join(posixpath.dirname(entry["real"] or "/"), "config.d")
        if entry["real"] and folder not in kata["config_dirs"] and not host.known(folder):
            wanted.append(folder)
    return _runtimes(host, found), sorted(dict.fromkeys(wanted))


def _runtimes(host, found):
    _without_handlers(host, found)
    pairs = [_runtime(host, entry) for entry in found.values()]
    pairs.sort(key=lambda pair: (not pair[0]["handlers"], pair[0]["id"], pair[0]["runtime"] or ""))
    runtimes = [runtime for runtime, _base_values in pairs]
    for runtime, base_values in pairs:
        folder = runtime["config_dir"]["path"]
        rules = "go" if any(other["config_dir"]["path"] == folder and other["runtime"] != "rs" for other in runtimes) else "rs"
        reason = _drop_in_unsafe(host, runtime, base_values, rules)
        runtime["drop_in"] = {"safe": reason is None, "reason": reason}
        runtime["problems"] += [{"code": "limits", "where": "host", "detail": text} for text in host.kata["limits"]]
    seen = set()
    for runtime in runtimes:
        if runtime["id"] in seen:  # one base file, read by both runtimes
            runtime["id"] += "#" + (runtime["runtime"] or "unknown")
        seen.add(runtime["id"])
    return runtimes
