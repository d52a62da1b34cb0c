# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of a host → the Kata runtimes that it has, with their effective values. Pure. PRIVATE to kataops.aio.

Input is the contract ``kata``, output the contract ``runtimes`` of docs/architecture.md. Besides the problem codes of ``_kata_toml``, a runtime may have:

=========================== ================================================================================================================
``kata_conf_file_rejected`` Kata 4.0.0 and later refuses this ``KATA_CONF_FILE``: it resolves to none of the default paths
``conf_file_unknown``       a wrapper sets ``KATA_CONF_FILE`` in a way that only a shell can tell
``shim_missing``            the handler's shim is not there: no sandbox of it can start
``shims_differ``            handlers that share this base file have shims of different releases
``cri_toml_invalid``        a configuration file of the CRI cannot be read as TOML (it is reported with every runtime of that CRI)
``cri_template``            a template of the CRI's configuration was read without its template lines
``cri_unreadable``          a configuration file of the CRI could not be read
``limits``                  the host had more configuration than is looked at
=========================== ================================================================================================================
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import zlib

from ansible_collections.kataops.aio.plugins.plugin_utils import _containerd as containerd
from ansible_collections.kataops.aio.plugins.plugin_utils import _kata_toml as kata_toml
from ansible_collections.kataops.aio.plugins.plugin_utils import _releases as releases

MAX_TEXTS = 64 * 1024 * 1024        # bytes that a host's texts may unpack to

# What a missing key of [hypervisor.qemu] means. block_device_aio: see _defaults().
DEFAULTS = {
    "path": releases.DEFAULT_QEMU_PATH, "block_device_driver": "virtio-scsi", "block_device_cache_set": False, "block_device_cache_direct": False,
    "block_device_cache_noflush": False, "disable_block_device_use": False, "enable_iothreads": False, "enable_guest_swap": False, "enable_annotations": [],
    "valid_hypervisor_paths": [], "firmware": "",
}


class Host:
    """The documents of a host by any of their names."""

    def __init__(self, kata):
        self.kata = kata
        self.documents = kata["documents"]
        self.texts = unpack(kata["texts_z"])
        self.real = {}
        for real, document in self.documents.items():
            self.real[real] = real
            for name in document["names"]:
                self.real[name] = real
        self.absent = set(kata["absent"])

    def resolve(self, name):
        """The real path of a name, or ``None``."""
        return self.real.get(posixpath.normpath(name))

    def known(self, name):
        """Was this name looked at on the host?"""
        name = posixpath.normpath(name)
        return name in self.real or name in self.absent

    def text(self, real):
        document = self.documents.get(real) or {}
        return self.texts.get(document.get("sha256"))

    def source(self, real, **more):
        """A document as :func:`_kata_toml.effective` wants it."""
        document = self.documents.get(real)
        if document is None:
            return dict({"path": real, "text": None, "kind": "missing", "reason": "No such file or directory"}, **more)
        return dict({"path": real, "text": self.text(real), "kind": document["kind"], "reason": document["reason"]}, **more)


def unpack(texts_z):
    """The texts of a host by the sha256 of their file."""
    engine = zlib.decompressobj()
    plain = engine.decompress(base64.b64decode(texts_z), MAX_TEXTS)
    if engine.unconsumed_tail:
        raise ValueError("a host sent more than %d bytes of configuration" % MAX_TEXTS)
    return json.loads(plain.decode("ascii"))


# --- the CRI's files -------------------------------------------------------------------------------------------------------------------------------


def _cri_instances(host):
    """The files of each CRI: ``{(cri, main file): [entries of kata.cri]}``."""
    found = {}
    for entry in sorted(host.kata["cri"], key=lambda entry: entry["order"]):
        found.setdefault((entry["cri"], entry["instance"]), []).append(entry)
    for name in host.kata.get("extra_files", ()):
        for path in host.kata["globs"].get(name, [name]):
            real = host.resolve(path)
            text = host.text(real) if real else None
            if not text:
                continue
            document = containerd.read(text, path)[0]
            cri = "crio" if "crio" in document else "containerd" if "plugins" in document else None
            listed = real in [entry["document"] for entry in host.kata["cri"]]
            if cri and not listed:
                found.setdefault((cri, path), []).append({"cri": cri, "instance": path, "role": "main", "name": path, "document": real, "order": 0})
    return found


def _read_cri(host, entries, wanted):
    """``(documents in reading order, problems)`` of one CRI instance; ``wanted`` collects what the host has not sent yet."""
    problems, documents, loaded = [], [], set()
    mains = [entry for entry in entries if entry["role"] == "main"] or [entry for entry in entries if entry["role"] == "template"]
    drop_ins = [entry for entry in entries if entry["role"] == "drop_in"]
    pending = [(entry["name"], entry["role"] == "template") for entry in mains]
    default_imports = True
    while pending:
        name, template = pending.pop(0)
        if name in loaded:
            continue
        loaded.add(name)
        document = _cri_document(host, name, template, problems)
        documents.append(document)
        if entries[0]["cri"] == "crio":
            continue
        patterns = containerd.import_patterns(document, name)
        if patterns is not None and mains and name == mains[0]["name"] and not template and entries[0]["instance"] == "/etc/containerd/config.toml":
            default_imports = False     # containerd's own default imports are replaced by the file's
        for pattern in patterns or ():
            if "*" in pattern:
                if pattern not in host.kata["globs"]:
                    wanted.append(pattern)
                pending += [(path, False) for path in host.kata["globs"].get(pattern, ())]
            else:
                if not host.known(pattern):
                    wanted.append(pattern)
                pending.append((pattern, False))
    for entry in drop_ins:
        if default_imports and entry["name"] not in loaded and host.documents[entry["document"]]["kind"] != "directory":
            loaded.add(entry["name"])
            documents.append(_cri_document(host, entry["name"], False, problems))
    return documents, problems


def _cri_document(host, name, template, problems):
    real = host.resolve(name)
    if real is None:
        return {}
    text = host.text(real)
    if text is None:
        problems.append({"code": "cri_unreadable", "where": name, "detail": host.documents[real]["reason"]})
        return {}
    document, found = containerd.read(text, name, template)
    problems += found
    return document


# --- from a handler to its configuration file --------------------------------------------------------------------------------------------------------


def _shim_of(host, runtime):
    """The path of a handler's shim, or ``None``."""
    if runtime["runtime_path"]:
        return posixpath.normpath(runtime["runtime_path"])
    kind = runtime["runtime_type"] or ""
    if kind.startswith("/"):
        return posixpath.normpath(kind)
    return host.kata["shim_names"].get(containerd.shim_name(kind))


def _chain(host, shim):
    """The records of a shim and of those that it starts, in order."""
    found = []
    while shim and shim in host.kata["shims"] and len(found) < 8:
        record = host.kata["shims"][shim]
        if record in found:
            break
        found.append(record)
        shim = record["target"]
    return found


def _last_shim(host, shim):
    """The path of the binary behind a shim's wrappers."""
    seen = []
    while shim and shim not in seen:
        seen.append(shim)
        target = (host.kata["shims"].get(shim) or {}).get("target")
        if not target:
            return shim
        shim = target
    return shim


def runtime_kind(host, shim):
    """``("go" | "rs", reason)`` of a shim, or ``(None, reason)``."""
    record = host.kata["shims"].get(_last_shim(host, shim)) if shim else None
    if record is None or record["kind"] == "missing":
        if shim and "/runtime-rs/" in shim:
            return "rs", "its shim's path names runtime-rs (the file is missing)"
        if shim and re.search(r"/bin/containerd-shim-kata[\w-]*-v2$", shim):
            return "go", "its shim's path is the Go runtime's (the file is missing)"
        return None, "no shim was found for it"
    if "/runtime-rs/" in record["real_path"]:
        return "rs", "its shim is %s" % record["real_path"]
    version = record["version_text"] or ""
    for word, kind in (("golang", "go"), ("rust", "rs")):
        if word in version.lower():
            return kind, "its shim says: %s" % version
    if record["kind"] == "elf" or record["kind"] == "other":
        return "go", "its shim is %s, not below runtime-rs/" % record["real_path"]
    return None, "%s is a script that starts no shim that could be told" % record["real_path"]


def _release_of(host, shim, config):
    """``(release, its source)`` of the installation that a shim, or else a configuration file, belongs to."""
    record = host.kata["shims"].get(_last_shim(host, shim)) if shim else None
    prefix = record["prefix"] if record else None
    if prefix is None and config and "/share/defaults/kata-containers/" in config:
        prefix = config.split("/share/defaults/kata-containers/", 1)[0]
    known = host.kata["releases"].get(prefix) or {}
    if known.get("version"):
        return known["version"], known["version_source"]
    match = re.search(r"version:?\s+v?(\d+\.\d+\.\d+[0-9A-Za-z.-]*)", (record or {}).get("version_text") or "")
    return (match.group(1), "%s --version" % record["real_path"]) if match else (None, None)


def _prefix_built_for(host, shim):
    """What the shim's defaults were compiled for: ``/usr`` of a distribution's package, else ``/opt/kata``; ``None`` when there is no shim."""
    record = host.kata["shims"].get(_last_shim(host, shim)) if shim else None
    if record is None or not record["real_path"]:
        return None
    return "/usr" if record["real_path"].startswith("/usr/") and not record["real_path"].startswith("/usr/local/") else "/opt/kata"


def _defaults_of(host, runtime, release, shim):
    return releases.default_configurations(runtime or "go", release, _prefix_built_for(host, shim))


def _choose(host, handler, kind, release, shim, problems):
    """The configuration file that a handler's shim reads: ``(asked path, how)``; ``(None, None)`` when there is none at any default place."""
    asked = handler["config_path"]
    env = None
    for record in _chain(host, shim):
        env = record["kata_conf_file"] or env
        if record["reason"] and "KATA_CONF_FILE" in record["reason"]:
            problems.append({"code": "conf_file_unknown", "where": shim, "detail": record["reason"]})
    if env is None:
        inherited = {process["kata_conf_file"] for process in host.kata["cri_processes"] if process["cri"] == handler["cri"]} - {None, ""}
        env = inherited.pop() if len(inherited) == 1 else None
    order = [("kata_conf_file", env), ("config_path", asked)] if kind == "rs" else [("config_path", asked), ("kata_conf_file", env)]
    defaults = _defaults_of(host, kind, release, shim)
    for how, path in order:
        if path:
            if how == "kata_conf_file" and releases.conf_file_restricted(release):
                real = host.resolve(path)
                if real is None or real not in [host.resolve(default) for default in defaults]:
                    problems.append({
                        "code": "kata_conf_file_rejected", "where": path,
                        "detail": "Kata %s accepts KATA_CONF_FILE only if it resolves to one of: %s" % (release, ", ".join(defaults)),
                    })
            return path, how
    for path in defaults:
        if host.resolve(path):
            return path, "default"
    return None, None


# --- one runtime -------------------------------------------------------------------------------------------------------------------------------------


def _drop_in_sources(host, folder):
    """The entries of a config.d as :func:`_kata_toml.effective` wants them."""
    record = host.kata["config_dirs"].get(folder) or {"entries": []}
    found = []
    for entry in record["entries"]:
        path = posixpath.join(folder, entry["name"])
        document = host.documents.get(entry["document"]) if entry["document"] else None
        source = {"name": entry["name"], "path": path, "kind": entry["kind"], "text": None, "reason": entry["reason"], "sha256": None}
        if document is not None:
            source.update(text=host.text(entry["document"]), reason=document["reason"], sha256=document["sha256"])
        if entry["kind"] == "symlink":
            source.update(target=entry["target"], target_kind=document["kind"] if document else "missing")
        found.append(source)
    return found


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


def _bases_in(host, folder):
    """The base files (real paths) in a folder: whatever reads that folder's config.d."""
    return sorted(
        real for real, document in host.documents.items()
        if posixpath.dirname(real) == folder and document["kind"] == "regular" and re.match(r"configuration.*\.toml$", posixpath.basename(real))
    )


def _hypervisors_of(host, real):
    return kata_toml.effective(host.source(real))["hypervisors"]


def _drop_in_verdict(host, runtime, base_values, rules):
    """May a drop-in with keys of [hypervisor.qemu] be written beside this runtime's base file? ``rules``: ``go`` when any Go runtime reads the folder."""
    directory = runtime["config_dir"]
    release = runtime["release"]
    kind = directory["kind"]
    if runtime["hypervisor"] != "qemu":
        return "its hypervisor is %s, not QEMU" % (runtime["hypervisor"] or "not to be told")
    if kind not in ("directory", "missing"):
        return "%s is a %s, not a folder" % (directory["path"], "dangling symlink" if kind == "dangling" else kind)
    if runtime["runtime"] is None:
        return "it is not known which of Kata's runtimes reads it: %s" % runtime["runtime_reason"]
    supported = releases.drop_ins_supported(runtime["runtime"], release)
    if supported is False:
        return "Kata %s does not read config.d" % release
    if runtime["runtime"] == "go" and releases.at_least(release, "3.0.0") is False:
        return "the Go runtime of Kata %s refuses a drop-in with block_device_aio (the key came with 3.0.0)" % release
    if supported is None and "block_device_aio" not in base_values:
        return "Kata's release is unknown, and nothing shows that it reads config.d and knows block_device_aio"
    if rules == "go":
        others = [real for real in directory["shared_with"] if _hypervisors_of(host, real) != ["qemu"]]
        if others:
            return "%s is shared with base files that are not QEMU's (%s): the Go runtime would take one of two hypervisors at random" % (
                directory["path"], ", ".join(posixpath.basename(real) for real in others))
    return None


def _defaults(kind, release):
    aio = releases.DEFAULT_AIO
    if kind == "go" and releases.at_least(release, "3.0.0") is False:
        aio = "threads"             # the key does not exist yet: QEMU's own default
    return dict(DEFAULTS, block_device_aio=aio)


def _runtime(host, found):
    """The contract ``runtime`` of one (base file, runtime kind)."""
    real = found["real"]
    folder = posixpath.join(posixpath.dirname(real or found["asked"]), "config.d")
    record = host.kata["config_dirs"].get(folder)
    sources = _drop_in_sources(host, folder)
    kind = found["kind"] or "go"
    merged = kata_toml.effective(host.source(real or found["asked"]), sources, kind, found["release"])
    values = dict(merged["values"])
    origins = dict(merged["sources"])
    if merged["hypervisor"] == "qemu":
        for key, value in _defaults(kind, found["release"]).items():
            if key not in values:
                values[key], origins[key] = value, "default"
            elif key in ("path", "block_device_aio") and values[key] == "":
                values[key] = value
    document = host.documents.get(real) or {}
    result = {
        "id": real or found["asked"],
        "handlers": found["handlers"],
        "cri": found["cri"],
        "runtime": found["kind"],
        "runtime_reason": found["kind_reason"],
        "release": found["release"],
        "release_source": found["release_source"],
        "shim": found["shim"],
        "config": {
            "asked": found["asked"], "real_path": real, "how": found["how"],
            "sha256": document.get("sha256"), "mode": document.get("mode"), "uid": document.get("uid"), "gid": document.get("gid"),
        },
        "config_dir": {
            "path": folder, "exists": bool(record and record["kind"] == "directory"), "kind": record["kind"] if record else "missing",
            "drop_ins": [{key: source[key] for key in ("name", "path", "kind", "sha256")} for source in sources],
            "shared_with": [path for path in _bases_in(host, posixpath.dirname(folder)) if path != real],
        },
        "hypervisor": merged["hypervisor"],
        "values": values,
        "sources": origins,
        "problems": found["problems"] + _config_dir_problems(record, folder) + merged["problems"],
        "refused": merged["refused"] or bool(record and record["kind"] not in ("directory", "missing", "dangling")),
    }
    result["refused"] = result["refused"] or any(problem["code"] == "kata_conf_file_rejected" for problem in found["problems"])
    base_only = kata_toml.effective(host.source(real or found["asked"]), (), kind, found["release"])
    result["_base_values"] = base_only["values"]
    return result


def _handlers(host, wanted):
    """Every Kata handler of every CRI: ``{handler, cri, runtime_type, runtime_path, config_path, problems}``."""
    found = []
    for (cri, _main), entries in _cri_instances(host).items():
        documents, problems = _read_cri(host, entries, wanted)
        runtimes = containerd.crio_runtimes(documents) if cri == "crio" else containerd.containerd_runtimes(documents)
        for handler, runtime in sorted(runtimes.items()):
            if containerd.is_kata(cri, runtime):
                found.append(dict(runtime, handler=handler, cri=cri, problems=problems))
    return found


def _found(asked, how, real, kind, kind_reason, release, source, shim):
    return {
        "asked": asked, "how": how, "real": real, "kind": kind, "kind_reason": kind_reason, "release": release, "release_source": source, "shim": shim,
        "handlers": [], "cri": [], "problems": [],
    }


def _with_handlers(host, wanted):
    """The base files that handlers lead to, by ``(real or asked path, runtime kind)``."""
    found = {}
    for handler in _handlers(host, wanted):
        problems = list(handler["problems"])
        shim = _shim_of(host, handler)
        kind, kind_reason = runtime_kind(host, shim)
        release, source = _release_of(host, shim, handler["config_path"])
        record = host.kata["shims"].get(_last_shim(host, shim)) if shim else None
        if record is None or record["kind"] == "missing":
            problems.append({
                "code": "shim_missing", "where": shim or containerd.shim_name(handler["runtime_type"]) or handler["handler"],
                "detail": "the shim of handler %s was not found" % handler["handler"],
            })
        asked, how = _choose(host, handler, kind, release, shim, problems)
        if asked is None:
            asked, how = _defaults_of(host, kind, release, shim)[0], "default"
        elif not host.known(asked):
            wanted.append(asked)
        real = host.resolve(asked)
        if release is None:
            release, source = _release_of(host, shim, real or asked)
        key = (real or asked, kind)
        if key not in found:
            found[key] = _found(asked, how, real, kind, kind_reason, release, source, shim)
        entry = found[key]
        if release != entry["release"]:
            problems.append({"code": "shims_differ", "where": shim, "detail": "release %s, the others' is %s" % (release, entry["release"])})
        for key, value in (("handlers", handler["handler"]), ("cri", handler["cri"])):
            if value not in entry[key]:
                entry[key].append(value)
        entry["problems"] += [problem for problem in problems if problem not in entry["problems"]]
    return found


def _installed_shim(host, kind, prefix):
    """The one shim of a kind that is installed (at a prefix), or ``None``."""
    found = {}
    for path, record in host.kata["shims"].items():
        if record["kind"] in ("elf", "other") and (prefix is None or record["prefix"] == prefix) and runtime_kind(host, path)[0] == kind:
            found.setdefault(record["real_path"], path)
    return sorted(found.values())[0] if len(found) == 1 else None


def _without_handlers(host, found):
    """Base files at default places that no handler names: what ``kata-runtime``, ``ctr`` and tests use."""
    places = [("go", path) for path in releases.default_configurations("go", None)] + [("rs", path) for path in releases.default_configurations("rs", None)]
    for name in host.kata.get("extra_files", ()):
        for path in host.kata["globs"].get(name, [name]):
            if host.resolve(path) and _hypervisors_of(host, host.resolve(path)):
                places.append(("rs" if _is_rs(host, host.resolve(path)) else "go", path))
    for kind, path in places:
        real = host.resolve(path)
        if real is None or host.documents[real]["kind"] == "missing":
            continue
        if kind == "go" and _is_rs(host, real):
            kind = "rs"             # runtime-rs 3.0 to 3.2 used the Go runtime's names
        if any(key[0] == real and key[1] in (kind, None) for key in found):
            continue
        prefix = path.split("/share/defaults/", 1)[0] if "/share/defaults/" in path else None
        shim = _installed_shim(host, kind, prefix)
        release, source = _release_of(host, shim, path)
        found[(real, kind)] = _found(path, "default", real, kind, "the place and content of its configuration file", release, source, shim)


def _is_rs(host, real):
    """Is this a configuration file of runtime-rs, by the key that only its files have?"""
    table = kata_toml.effective(host.source(real), (), "rs")["document"].get("runtime")
    return "/runtime-rs/" in real or (isinstance(table, dict) and "hypervisor_name" in table)


def discover(kata):
    """The Kata runtimes of a host.

    :arg kata: what the host sent (contract ``kata``).
    :returns: a list of ``runtime`` (contract), those with handlers first, each in the order of their base files.
    """
    host = Host(kata)
    found = _with_handlers(host, [])
    _without_handlers(host, found)
    runtimes = [_runtime(host, entry) for entry in found.values()]
    limits = [{"code": "limits", "where": "host", "detail": text} for text in kata["limits"]]
    ids = set()
    for runtime in sorted(runtimes, key=lambda runtime: (not runtime["handlers"], runtime["id"], runtime["runtime"] or "")):
        folder = runtime["config_dir"]["path"]
        rules = "go" if any(other["config_dir"]["path"] == folder and other["runtime"] != "rs" for other in runtimes) else "rs"
        reason = _drop_in_verdict(host, runtime, runtime.pop("_base_values"), rules)
        runtime["drop_in"] = {"safe": reason is None, "reason": reason}
        runtime["problems"] += limits
        if runtime["id"] in ids:
            runtime["id"] += "#" + (runtime["runtime"] or "unknown")
        ids.add(runtime["id"])
    return sorted(runtimes, key=lambda runtime: (not runtime["handlers"], runtime["id"]))


def missing_documents(kata):
    """What the parse needs and the host has not sent: paths and patterns for ``collect(wanted=…)``. Empty: nothing is missing."""
    wanted = []
    host = Host(kata)
    _with_handlers(host, wanted)
    return sorted(dict.fromkeys(wanted))
