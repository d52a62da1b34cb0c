# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's shims, their shell wrappers, and what tells the release of an installation. PRIVATE to kataops.aio."""

from __future__ import annotations

import posixpath
import re

from ansible_collections.kataops.aio.plugins.module_utils._host import command
from ansible_collections.kataops.aio.plugins.module_utils._kata import hints

VERSION_TIMEOUT = 2.0  # seconds for `<shim> --version`
MAX_VERSION = 64 * 1024  # bytes that it may print
MAX_WRAPPER = 64 * 1024  # bytes of a shell wrapper that are looked at
MAX_SHIMS = 128

SHIM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/kata/bin")


def run_version(path):
    """The first line of ``<shim> --version``, or ``None``. It is killed after :data:`VERSION_TIMEOUT` seconds."""
    done = command.run([path, "--version"], VERSION_TIMEOUT, MAX_VERSION)
    lines = (done.text.strip() or done.words.strip()).split("\n")
    return lines[0][:400] if done.status == 0 and lines[0] else None


def prefix_of(real_path):
    """The installation that a shim belongs to: ``/opt/kata`` of ``/opt/kata/bin/…`` and of ``/opt/kata/runtime-rs/bin/…``; ``None`` elsewhere."""
    folder = posixpath.dirname(real_path)
    if posixpath.basename(folder) not in ("bin", "sbin", "libexec"):
        return None
    prefix = posixpath.dirname(folder)
    return posixpath.dirname(prefix) if posixpath.basename(prefix) == "runtime-rs" else prefix


class Shims:
    """The shims of a host by every path that they are named by. See ``kata.shims`` in docs/architecture.md."""

    def __init__(self, tree):
        self.tree = tree
        self.by_path = {}
        self.by_name = {}

    def add(self, path):
        """Look at a shim and, when it is a wrapper, at the one that it starts. Returns its record, or ``None`` beyond :data:`MAX_SHIMS`."""
        path = posixpath.normpath(path)
        if path in self.by_path:
            return self.by_path[path]
        if len(self.by_path) >= MAX_SHIMS:
            return None
        record = dict.fromkeys(("real_path", "prefix", "kata_conf_file", "target", "version_text", "reason", "untrusted"), None)
        record["kind"] = "missing"
        self.by_path[path] = record
        real, error = self.tree.resolve(path)
        if real is None:
            record["reason"] = error.strerror
            return record
        record["real_path"] = real
        record["prefix"] = prefix_of(real)
        record["untrusted"] = self.tree.trust.program_problem(path)
        head = self.tree.head(real, 4)
        record["kind"] = "elf" if head == b"\x7fELF" else "script" if head[:2] == b"#!" else "other"
        if record["kind"] == "script":
            data, _info, reason = self.tree.read(real, MAX_WRAPPER)
            found = hints.wrapper((data or b"").decode("utf-8", "replace"))
            record.update(kata_conf_file=found["kata_conf_file"], reason=reason or found["reason"])
            if record["untrusted"]:
                record.update(kata_conf_file=None, reason="what it sets was not looked at: %s" % record["untrusted"])
                return record
            if found["target"] and posixpath.normpath(found["target"]) != path:
                record["target"] = posixpath.normpath(found["target"])
                self.add(record["target"])
        return record

    def add_name(self, name):
        """Find a shim by its name: the first of :data:`SHIM_FOLDERS` that has such a file. No process's PATH is used."""
        if name in self.by_name:
            return
        self.by_name[name] = None
        for folder in SHIM_FOLDERS:
            path = posixpath.join(folder, name)
            if self.tree.resolve(path)[0] is not None:
                self.by_name[name] = path
                self.add(path)
                return

    def prefixes(self):
        """The installations of all shims found."""
        return sorted({record["prefix"] for record in self.by_path.values() if record["prefix"]})


def release_of(tree, prefix):
    """What an installation says of its release: ``{version, version_source, qemu_version, qemu_version_source, evidence}``. See ``kata.releases``."""
    result = {"version": None, "version_source": None, "qemu_version": None, "qemu_version_source": None, "evidence": []}
    for name, limit in (("VERSION", 256), ("versions.yaml", 1024 * 1024)):
        path = posixpath.join(prefix, name)
        real = tree.resolve(path)[0]
        data = tree.read(real, limit)[0] if real else None
        if data is None:
            continue
        text = data.decode("utf-8", "replace")
        if name == "VERSION":
            match = re.match(r"^\s*v?(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)\s*$", text)
            if match:
                result.update(version=match.group(1), version_source=path)
            answer = text.strip()[:80]
        else:
            version = hints.versions_yaml_qemu(text)
            if version:
                result.update(qemu_version=version, qemu_version_source=path)
            answer = "assets.hypervisor.qemu.version: %s" % version
        result["evidence"].append({"asked": "read %s" % path, "answered": answer, "by": "file"})
    return result


def ask_versions(shims, releases, run):
    """Last resort: run ``--version`` of those ELF shims whose installation has no release marker. ``run`` is :func:`run_version` or a placeholder host."""
    for record in shims.by_path.values():
        if record["kind"] == "elf" and not record["untrusted"] and not (releases.get(record["prefix"]) or {}).get("version"):
            record["version_text"] = run(record["real_path"])
