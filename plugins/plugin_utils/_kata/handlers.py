# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the CRI's files to the configuration file that each Kata handler reads. Pure. PRIVATE to kataops.aio.

Order of precedence (Kata 2.x to 4.1.0, both runtimes' own code): the Go shim takes the task option ``ConfigPath``, then ``KATA_CONF_FILE``, then its
defaults; runtime-rs takes ``KATA_CONF_FILE`` first. From 4.0.0 on ``KATA_CONF_FILE`` is accepted only if it resolves to a default path.
``KATA_CONF_FILE`` comes from a shell wrapper of the shim, else from the CRI's own environment.
"""

from __future__ import annotations

import posixpath

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import cri as containerd
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import documents as kata_host
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

CONTAINERD_MAIN = "/etc/containerd/config.toml"  # the one file for which containerd has default imports


def _instances(host):
    """The files of each CRI that the host found: ``{(cri, main file): [entries of kata.cri]}``."""
    found = {}
    for entry in sorted(host.kata["cri"], key=lambda entry: entry["order"]):
        found.setdefault((entry["cri"], entry["instance"]), []).append(entry)
    return found


def _named_instances(host, loaded):
    """CRI files that the user named and that no other file led to, in the shape of :func:`_instances`."""
    found = {}
    for path in host.named(host.kata["extra_files"]):
        real = host.resolve(path)
        text = host.text(real) if real and real not in loaded else None
        if not text:
            continue
        document = containerd.read(text, path)[0]
        cri = "crio" if "crio" in document else "containerd" if "plugins" in document else None
        if cri:
            found[cri, path] = [{"cri": cri, "instance": path, "role": "main", "name": path, "document": real, "order": 0}]
    return found


def _read(host, name, template, problems):
    """One file of a CRI as a document; ``{}`` when there is nothing to be read."""
    real = host.resolve(name)
    if real is None:
        return {}
    text = host.text(real)
    if text is None:
        if host.documents[real]["kind"] != "directory":
            problems.append({"code": "cri_unreadable", "where": name, "detail": host.documents[real]["reason"]})
        return {}
    document, found = containerd.read(text, name, template)
    problems += found
    return document


def _read_instance(host, entries, wanted, loaded):
    """``(documents in reading order, problems)`` of one CRI.

    A template counts only where the file that is made from it is missing. ``wanted`` collects names that the host has not sent yet, ``loaded`` the
    real paths that were read.
    """
    problems, documents, seen = [], [], set()
    mains = [entry for entry in entries if entry["role"] == "main"] or [entry for entry in entries if entry["role"] == "template"]
    drop_ins = [entry["name"] for entry in entries if entry["role"] == "drop_in"]
    pending = [(entry["name"], entry["role"] == "template") for entry in mains]
    while pending or drop_ins:
        if not pending:
            pending, drop_ins = [(name, False) for name in drop_ins], []
        name, template = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        loaded.add(host.resolve(name))
        document = _read(host, name, template, problems)
        documents.append(document)
        patterns = containerd.import_patterns(document, name) if entries[0]["cri"] == "containerd" else []
        if patterns is not None and name == CONTAINERD_MAIN:
            drop_ins = []  # containerd's default import of conf.d is replaced by what the file says
        for pattern in patterns or ():
            known = pattern in host.kata["globs"] if "*" in pattern else host.known(pattern)
            if not known:
                wanted.append(pattern)
            pending += [(path, False) for path in (host.kata["globs"].get(pattern, []) if "*" in pattern else [pattern])]
    return documents, problems


def handlers(host, wanted):
    """Every Kata handler of every CRI: ``[{handler, cri, runtime_type, runtime_path, config_path, problems}]``."""
    found, loaded = [], set()
    for find in (lambda: _instances(host), lambda: _named_instances(host, loaded)):
        for (cri, _main), entries in find().items():
            documents, problems = _read_instance(host, entries, wanted, loaded)
            runtimes = containerd.crio_runtimes(documents) if cri == "crio" else containerd.containerd_runtimes(documents)
            for name, runtime in sorted(runtimes.items()):
                if containerd.is_kata(cri, runtime):
                    found.append(dict(runtime, handler=name, cri=cri, problems=problems))
    return found


def _shim_of(host, handler, wanted):
    """The path of a handler's shim, or ``None``."""
    path = handler["runtime_path"] or ""
    kind = handler["runtime_type"] or ""
    if not path and kind.startswith("/"):
        path = kind
    if path:
        path = posixpath.normpath(path)
        if host.shim(path) is None:
            wanted.append(path)
        return path
    name = containerd.shim_name(kind)
    if name and name not in host.kata["shim_names"]:
        wanted.append(name)
    return host.kata["shim_names"].get(name)


def _conf_file_of(host, handler, shim, problems):
    """``KATA_CONF_FILE`` as the handler's shim sees it, or ``None``."""
    found = None
    for path in host.shim_chain(shim):
        record = host.shim(path) or {"kata_conf_file": None, "reason": None}
        found = record["kata_conf_file"] or found
        if "KATA_CONF_FILE" in (record["reason"] or ""):
            problems.append({"code": "conf_file_unknown", "where": path, "detail": record["reason"]})
    if found is None:
        inherited = {process["kata_conf_file"] for process in host.kata["cri_processes"] if process["cri"] == handler["cri"]} - {None, ""}
        found = inherited.pop() if len(inherited) == 1 else None
    return found


def defaults_of(host, runtime, release, shim):
    """The configuration files that a shim tries when it is told none."""
    return releases.default_configurations(runtime or "go", release, (host.binary(shim) or {}).get("real_path"))


def _choose(host, handler, found, problems):
    """``(asked path, how)`` of the configuration file that a handler's shim reads. ``found``: its ``kind``, ``release``, ``shim``."""
    env = _conf_file_of(host, handler, found["shim"], problems)
    order = [("config_path", handler["config_path"]), ("kata_conf_file", env)]
    if found["kind"] == "rs":
        order.reverse()
    defaults = defaults_of(host, found["kind"], found["release"], found["shim"])
    for how, path in order:
        if not path:
            continue
        if how == "kata_conf_file" and releases.conf_file_restricted(found["release"]):
            real = host.resolve(path)
            if real is None or real not in [host.resolve(default) for default in defaults]:
                problems.append(
                    {
                        "code": "kata_conf_file_rejected",
                        "where": path,
                        "detail": "Kata %s accepts KATA_CONF_FILE only if it resolves to one of: %s" % (found["release"], ", ".join(defaults)),
                    }
                )
        return path, how
    return next((path for path in defaults if host.resolve(path)), defaults[0]), "default"


def wire(host, handler, wanted):
    """Follow one handler to its configuration file.

    :returns: ``{asked, how, real, kind, kind_reason, release, release_source, shim, problems}``; ``real`` is ``None`` when there is no such file.
    """
    problems = list(handler["problems"])
    shim = _shim_of(host, handler, wanted)
    kind, reason = kata_host.runtime_kind(host, shim)
    release, source = kata_host.release_of(host, shim, handler["config_path"])
    found = {"shim": shim, "kind": kind, "kind_reason": reason, "release": release, "release_source": source, "problems": problems}
    if shim is None or (host.binary(shim) or {}).get("kind") == "missing":
        problems.append(
            {
                "code": "shim_missing",
                "where": shim or containerd.shim_name(handler["runtime_type"]) or handler["handler"],
                "detail": "the shim of handler %s was not found" % handler["handler"],
            }
        )
    found["asked"], found["how"] = _choose(host, handler, found, problems)
    if not host.known(found["asked"]):
        wanted.append(found["asked"])
    found["real"] = host.resolve(found["asked"])
    if release is None:
        found["release"], found["release_source"] = kata_host.release_of(host, shim, found["real"] or found["asked"])
    return found
