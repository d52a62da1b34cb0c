# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where containerd and CRI-O have their configuration, and what their running processes say of it. PRIVATE to kataops.aio."""

from __future__ import annotations

import os
import posixpath

MAX_PROCESSES = 65536
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


def _bytes_of(tree, path, size):
    # Files of /proc have no length of their own, so they are read as they come.
    try:
        descriptor = os.open(tree.physical(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _same_root(tree, pid):
    # A containerd inside a container names files of another file system.
    try:
        there = os.stat(tree.physical("/proc/%s/root/." % pid))
        here = os.stat(tree.physical("/."))
    except OSError:
        return tree.root != "/"
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def processes(tree):
    """The running CRI processes and Kata shims of this host.

    :returns: ``(cri, shims)``: ``cri`` is a list of ``{cri, config, config_dir, kata_conf_file, path}`` (its arguments, and of its environment only
        ``KATA_CONF_FILE`` and ``PATH``, which its shims inherit), ``shims`` the paths of running Kata shims.
    """
    cri, shims = [], []
    names = tree.names("/proc")[0] or []
    for pid in [name for name in names if name.isdigit()][:MAX_PROCESSES]:
        comm = _bytes_of(tree, "/proc/%s/comm" % pid, 64).decode("utf-8", "replace").strip()
        if comm not in _CRI_OF and not comm.startswith("containerd-shim"):
            continue
        words = [word.decode("utf-8", "replace") for word in _bytes_of(tree, "/proc/%s/cmdline" % pid, 65536).split(b"\0") if word]
        if not words or not _same_root(tree, pid):
            continue
        if comm not in _CRI_OF:
            if words[0].startswith("/") and "kata" in posixpath.basename(words[0]) and words[0] not in shims:
                shims.append(words[0])
            continue
        items = _bytes_of(tree, "/proc/%s/environ" % pid, 1024 * 1024).split(b"\0")
        environment = dict(item.decode("utf-8", "replace").split("=", 1) for item in items if b"=" in item)
        found = {
            "cri": _CRI_OF[comm],
            "config": _argument(words, ("--config", "-config", "-c")),
            "config_dir": _argument(words, ("--config-dir", "-d")) if comm == "crio" else None,
            "kata_conf_file": environment.get("KATA_CONF_FILE"),
            "path": environment.get("PATH"),
        }
        if found not in cri:
            cri.append(found)
    return cri, shims


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
