# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where containerd and CRI-O have their configuration, and what their running processes say of it. PRIVATE to kataops.aio."""

from __future__ import annotations

import os
import posixpath

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head

MAX_PROCESSES = 65536
MAX_UNTRUSTED = 16  # processes that are not trusted and are told of
_CRI_OF = {"containerd": "containerd", "crio": "crio"}
_RANCHER = "/var/lib/rancher/%s/agent/etc/containerd/"

# (cri, its main file, drop-ins that it reads without being told so, what its main file is made from, and that counts only until there is one).
# Sources: Kata's kata-deploy (which of them it writes, 3.8 to 4.1); containerd's and CRI-O's own defaults.
PLACES = (
    (("containerd", "/etc/containerd/config.toml", ("/etc/containerd/conf.d/*.toml",), ()),)
    + tuple(
        (
            "containerd",
            _RANCHER % name + "config.toml",
            (),
            tuple(_RANCHER % name + path for path in ("config.toml.tmpl", "config-v3.toml.tmpl", "config.toml.d/*.toml", "config-v3.toml.d/*.toml")),
        )
        for name in ("k3s", "rke2")
    )
    + (
        ("containerd", "/etc/k0s/containerd.toml", ("/etc/k0s/containerd.d/*.toml",), ()),
        ("containerd", "/var/snap/microk8s/current/args/containerd.toml", (), ("/var/snap/microk8s/current/args/containerd-template.toml",)),
        ("crio", "/etc/crio/crio.conf", ("/etc/crio/crio.conf.d/*",), ()),
    )
)


def _argument(words, names):
    for number, word in enumerate(words):
        for name in names:
            if word == name and number + 1 < len(words):
                return words[number + 1]
            if word.startswith(name + "="):
                return word[len(name) + 1 :]
    return None


def _words(process, name, size):
    """The NUL-separated words of a file of a process."""
    try:
        return [word.decode("utf-8", "replace") for word in read_head(name, size, dir_fd=process).split(b"\0") if word]
    except OSError:
        return []


def _same_root(tree, process):
    # A containerd inside a container names files of another file system.
    try:
        there = os.stat("root/.", dir_fd=process)
        here = os.stat(tree.physical("/."))
    except OSError:
        return tree.root != "/"
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def processes(tree):
    """The running CRI processes and Kata shims of this host that are root's own.

    :returns: ``(cri, shims, untrusted)``: ``cri`` is a list of ``{cri, config, config_dir, kata_conf_file}`` (its arguments, and of its environment only
        ``KATA_CONF_FILE``, which its shims inherit), ``shims`` the paths of running Kata shims, ``untrusted`` a list of ``{what, path, reason}``: the
        processes that call themselves so and are not root's own. What those name is not looked at.
    """
    cri, shims, untrusted = [], [], []
    names = tree.names("/proc")[0] or []
    for pid in [name for name in names if name.isdigit()][:MAX_PROCESSES]:
        try:
            # All is read through this one descriptor, so that it is of one process whatever becomes of its number.
            process = os.open(tree.physical("/proc/" + pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            comm = read_head("comm", 64, dir_fd=process).decode("utf-8", "replace").strip()
            if comm in _CRI_OF or comm.startswith("containerd-shim"):
                _take_process(tree, process, pid, comm, cri, shims, untrusted)
        except OSError:
            continue
        finally:
            os.close(process)
    return cri, shims, untrusted


def _take_process(tree, process, pid, comm, cri, shims, untrusted):  # noqa: PLR0917
    words = _words(process, "cmdline", 65536)
    if not words or not _same_root(tree, process):
        return
    if comm not in _CRI_OF and not (words[0].startswith("/") and "kata" in posixpath.basename(words[0])):
        return
    problem = tree.trust.process_problem(process)
    if problem:
        if len(untrusted) < MAX_UNTRUSTED and all(problem != known["reason"] for known in untrusted):
            untrusted.append({"what": "process", "path": "process %s (%s)" % (pid, comm), "reason": problem})
        return
    if comm not in _CRI_OF:
        if words[0] not in shims:
            shims.append(words[0])
        return
    environment = dict(item.split("=", 1) for item in _words(process, "environ", 1024 * 1024) if "=" in item)
    found = {
        "cri": _CRI_OF[comm],
        "config": _argument(words, ("--config", "-config", "-c")),
        "config_dir": _argument(words, ("--config-dir", "-d")) if comm == "crio" else None,
        "kata_conf_file": environment.get("KATA_CONF_FILE"),
    }
    if found not in cri:
        cri.append(found)


def instances(running):
    """The CRI instances to look for: those that run first, then the usual places. Each ``{cri, main, drop_ins, templates}``, by its main file."""
    usual = {place[1]: place for place in PLACES}
    found = []
    for process in running:
        config = process["config"]
        if config and config.startswith("/") and config not in usual:
            found.append({"cri": process["cri"], "main": config, "drop_ins": [], "templates": []})
        folder = process["config_dir"]
        if folder and folder.startswith("/") and folder != "/etc/crio/crio.conf.d":
            found.append({"cri": "crio", "main": config or "/etc/crio/crio.conf", "drop_ins": [posixpath.join(folder, "*")], "templates": []})
    for cri, main, drop_ins, templates in PLACES:
        found.append({"cri": cri, "main": main, "drop_ins": list(drop_ins), "templates": list(templates)})
    merged = {}
    for instance in found:
        known = merged.setdefault(instance["main"], instance)
        for key in ("drop_ins", "templates"):
            known[key] = known[key] + [item for item in instance[key] if item not in known[key]]
    return list(merged.values())
