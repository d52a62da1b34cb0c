# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and returns Kata's and the CRI's configuration documents of a host. PRIVATE to kataops.aio.

The host half of discovery: it looks only, parses no TOML, and follows hints (``_kata_hints``) from the CRI's files to Kata's. The shape of what
it returns is the contract ``kata`` of docs/architecture.md; the controller half is ``plugin_utils/_kata/discover.py``.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from ansible_collections.kataops.aio.plugins.module_utils._host.files import kind_of
from ansible_collections.kataops.aio.plugins.module_utils._kata import cri as cri_places
from ansible_collections.kataops.aio.plugins.module_utils._kata import hints, places
from ansible_collections.kataops.aio.plugins.module_utils._kata import shims as shim_tools
from ansible_collections.kataops.aio.plugins.module_utils._kata.files import MAX_ENTRIES, Documents, Tree

SHARE = "share/defaults/kata-containers"
OVERRIDES = "/etc/kata-containers"  # where both runtimes look first for their default configuration
MAX_PREFIXES = 32
MAX_UNTRUSTED = 64  # what is not trusted and told of
MAX_NAMED = 1024  # paths of one host that Kata's documents name


class _Collector:
    """One collection. Order matters only for what is named first; everything is looked at once."""

    def __init__(self, root, run_version):
        self.tree = Tree(root)
        self.documents = Documents(self.tree)
        self.globs = {}
        self.cri = []
        self.config_dirs = {}
        self.bases = []
        self.read_only = {}
        self.run_version = run_version
        self.running, running_shims, self.untrusted = cri_places.processes(self.tree)
        self.shims = shim_tools.Shims(self.tree)
        self._seen_cri = set()
        for path in running_shims:
            self.shims.add(path)

    def glob(self, pattern):
        if pattern not in self.globs:
            self.globs[pattern] = self.tree.glob(pattern)
        return self.globs[pattern]

    def names_of(self, path):
        """A path, or all that a pattern matches."""
        return self.glob(path) if any(char in path for char in "*?[") else [path]

    def take(self, path):
        """Take a file (or all that a pattern matches) of which it is not known what it is; a bare name is a shim's."""
        if "/" not in path:
            self.shims.add_name(path)
            return
        for name in self.names_of(path):
            real = self.tree.resolve(name)[0]
            if real is not None and self.tree.head(real, 4)[:2] in (b"\x7fE", b"#!"):
                self.shims.add(name)
                continue
            if posixpath.basename(name) == "config.d":
                self.take_config_dir(name)
            real = self.documents.add(name)
            if real is None:
                continue
            text = self.documents.text(real)
            if hints.looks_like_kata(text) or posixpath.basename(real).startswith("configuration"):
                self.take_base(real)
            else:
                self.follow_cri(real, name)

    def take_base(self, real):
        """Take a file that may be a base file of Kata: the drop-ins beside its real path belong to it."""
        if real in self.bases or posixpath.basename(posixpath.dirname(real)) == "config.d":
            return
        self.bases.append(real)
        folder = posixpath.dirname(real)
        # Whatever is called, a file beside it reads the same config.d once a handler names it.
        for name in self.tree.glob(posixpath.join(folder, "*.toml")):
            self.documents.add(name)
        config_dir = posixpath.join(folder, "config.d")
        self.take_config_dir(config_dir)
        parent = self.tree.read_only(folder)
        self.note_read_only(real, parent or self.tree.read_only(real))
        exists = self.config_dirs[config_dir]["kind"] == "directory"
        self.note_read_only(config_dir, self.tree.read_only(config_dir) if exists else parent)

    def note_read_only(self, path, reason):
        """Keep why no file can be put at a place (a base file's own, or into a config.d): images and stores are written by nobody at run time."""
        if reason:
            self.read_only[path] = reason

    def take_config_dir(self, path):
        if path in self.config_dirs:
            return
        record = {"kind": "missing", "real_path": None, "reason": None, "entries": []}
        self.config_dirs[path] = record
        info, _error = self.tree.lstat(path)
        if info is None:
            return
        real, error = self.tree.resolve(path)
        if real is None:
            record.update(kind="dangling", reason=error.strerror)
            return
        record.update(kind=kind_of(self.tree.lstat(real)[0].st_mode), real_path=real)
        if record["kind"] != "directory":
            return
        names, error = self.tree.names(real)
        if names is None:
            record["reason"] = error.strerror
            return
        if len(names) >= MAX_ENTRIES:
            record["reason"] = "more than %d entries" % MAX_ENTRIES
        record["entries"] = [self._entry(real, name) for name in names]

    def _entry(self, folder, name):
        path = posixpath.join(folder, name)
        entry = {"name": name, "kind": "missing", "target": None, "document": None, "reason": None}
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")  # a name that is not UTF-8 could not travel; Kata reads such a file as any other
        entry["name"] = posixpath.basename(shown)
        info, error = self.tree.lstat(path)
        if info is None:
            entry["reason"] = error.strerror
            return entry
        entry["kind"] = kind_of(info.st_mode)
        if stat.S_ISLNK(info.st_mode):
            real, error = self.tree.resolve(path)
            if real is None:
                entry["reason"] = error.strerror
                return entry
            entry["target"] = os.fsencode(real).decode("utf-8", "backslashreplace")
        if entry["kind"] in ("regular", "symlink"):
            entry["document"] = self.documents.add(path)
        return entry

    def follow_cri(self, real, name):
        """Take what a file of a CRI names: imports, Kata's files, shims."""
        if (real, name) in self._seen_cri:
            return
        self._seen_cri.add((real, name))
        text = self.documents.trusted_text(real)
        for shim in hints.shim_paths(text):
            self.shims.add(shim)
        for shim in hints.shim_names(text):
            self.shims.add_name(shim)
        for path in hints.toml_paths(text, posixpath.dirname(name)):
            self.take(path)

    def take_cri(self):
        for instance in cri_places.instances(self.running):
            order = 0
            parts = [("main", instance["main"])]
            parts += [("drop_in", pattern) for pattern in instance["drop_ins"]] + [("template", path) for path in instance["templates"]]
            for role, path in parts:
                for name in self.names_of(path):
                    real = self.documents.add(name)
                    if real is None:
                        continue
                    self.cri.append(
                        {
                            "cri": instance["cri"],
                            "instance": instance["main"],
                            "role": role,
                            "name": name,
                            "document": real,
                            "order": order,
                        }
                    )
                    order += 1
                    self.follow_cri(real, name)

    def take_shims(self):
        for pattern in ("/opt/kata*/bin/containerd-shim-kata*", "/opt/kata*/runtime-rs/bin/containerd-shim-kata*") + tuple(
            posixpath.join(folder, "containerd-shim-kata*") for folder in shim_tools.SHIM_FOLDERS[:-1]
        ):
            for path in self.tree.glob(pattern):
                self.shims.add(path)
        for record in list(self.shims.by_path.values()):
            if record["kata_conf_file"]:
                self.take(record["kata_conf_file"])
        for process in self.running:
            if (process["kata_conf_file"] or "").startswith("/"):
                self.take(process["kata_conf_file"])

    def prefixes(self):
        """Every folder that looks like an installation of Kata."""
        found = self.shims.prefixes() + self.tree.glob("/opt/kata") + self.tree.glob("/opt/kata-*")
        for name in [name for record in self.documents.by_path.values() for name in record["names"]]:
            if "/" + SHARE + "/" in name:
                found.append(name.split("/" + SHARE + "/", 1)[0])
        return sorted(dict.fromkeys(found))[:MAX_PREFIXES]

    def take_folders(self, prefixes):
        folders = places.folders() + [posixpath.join(prefix, SHARE) for prefix in prefixes]
        for folder in dict.fromkeys(folders):
            for kind in (folder, posixpath.join(folder, "runtime-rs")):
                for pattern in ("configuration*.toml", "runtimes/*/configuration*.toml", "custom-runtimes/*/configuration*.toml"):
                    for name in self.tree.glob(posixpath.join(kind, pattern)):
                        real = self.documents.add(name)
                        if real is not None:
                            self.take_base(real)

    def qemu_paths(self):
        found = []
        for real in self.documents.by_path:
            text = self.documents.trusted_text(real)
            if not hints.looks_like_kata(text):
                continue
            paths = hints.qemu_paths(text)
            if not paths and real in self.bases and "qemu" in text.lower():
                paths = [hints.DEFAULT_QEMU]
            found += paths
        return list(dict.fromkeys(found))

    def named_files(self):
        """What is known of every path that Kata's documents name: both runtimes refuse a configuration whose kernel, image or QEMU is not there."""
        found = {}
        for real in self.documents.by_path:
            text = self.documents.text(real)
            if not hints.looks_like_kata(text):
                continue
            for path in hints.strings(text):
                if path.startswith("/") and "\0" not in path and len(path) <= 4096 and path not in found and len(found) < MAX_NAMED:
                    found[path] = self._named_file(path)
        return {path: record for path, record in found.items() if record is not None}

    def _named_file(self, path):
        """``{exists, kind, size}`` of a path; None where this user may not see it."""
        real, error = self.tree.resolve(path)
        info = None
        if real is not None:
            info, error = self.tree.lstat(real)
        if info is not None:
            return {"exists": True, "kind": kind_of(info.st_mode), "size": info.st_size}
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return {"exists": False, "kind": None, "size": None} if missing else None

    def result(self, extra_files, wanted):
        self.take_cri()
        for path in list(extra_files) + list(wanted):
            if path.startswith("/") or "/" not in path:
                self.take(path)
        self.take_shims()
        prefixes = self.prefixes()
        self.take_folders(prefixes)
        releases = {prefix: shim_tools.release_of(self.tree, prefix) for prefix in prefixes}
        shim_tools.ask_versions(self.shims, releases, self.run_version)
        for path, record in self.documents.by_path.items():
            if record["untrusted"] and len(self.untrusted) < MAX_UNTRUSTED:
                self.untrusted.append({"what": "document", "path": path, "reason": record["untrusted"]})
        for path, record in self.shims.by_path.items():
            if record["untrusted"] and len(self.untrusted) < MAX_UNTRUSTED:
                self.untrusted.append({"what": "shim", "path": path, "reason": record["untrusted"]})
        for folder in (OVERRIDES, posixpath.dirname(OVERRIDES)):
            if self.read_only and self.tree.lstat(folder)[0]:
                self.note_read_only(OVERRIDES, self.tree.read_only(folder))
                break
        return {
            "documents": self.documents.by_path,
            "texts_z": self.documents.packed(),
            "absent": self.documents.absent,
            "globs": self.globs,
            "config_dirs": self.config_dirs,
            "read_only": self.read_only,
            "cri": self.cri,
            "cri_processes": self.running,
            "shims": self.shims.by_path,
            "shim_names": self.shims.by_name,
            "releases": {prefix: release for prefix, release in releases.items() if release["evidence"]},
            "extra_files": list(extra_files),
            "qemu_paths": self.qemu_paths(),
            "files": self.named_files(),
            "limits": self.documents.limits,
            "untrusted": self.untrusted,
        }


def collect(root="/", extra_files=(), wanted=(), run_version=None):
    """Everything that discovery needs of a host: the contract ``kata`` of docs/architecture.md.

    :arg root: the folder that is taken for ``/`` (links inside it are followed as if it were).
    :arg extra_files: absolute paths of further configuration files, of Kata or of a CRI, that the user names; patterns are allowed.
    :arg wanted: paths or patterns that ``missing_documents`` of the controller asks for in a second round trip.
    :arg run_version: runs ``<shim> --version`` where no marker tells the release; by default only when ``root`` is ``/``.
    :returns: plain data. It never raises for what a host's files contain or deny.
    """
    if run_version is None:
        run_version = shim_tools.run_version if Tree(root).root == "/" else (lambda path: None)
    return _Collector(root, run_version).result(extra_files, wanted)
