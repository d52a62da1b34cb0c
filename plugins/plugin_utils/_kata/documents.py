# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sent, to be looked at by name: its documents, its shims, its releases. Pure. PRIVATE to kataops.aio.

The shape of the input is the contract ``kata`` of docs/architecture.md.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import zlib

SHARE = "/share/defaults/kata-containers/"
# Compiled here, once: each host is judged in a new process
_GO_SHIM = re.compile(r"/bin/containerd-shim-kata[\w-]*-v2$")
_VERSION = re.compile(r"version:?\s+v?(\d+\.\d+\.\d+[0-9A-Za-z.-]*)")
MAX_TEXTS = 64 * 1024 * 1024  # bytes that a host's texts may unpack to


def name_bytes(name):
    """The bytes of a file's name, by which both runtimes sort. What is not UTF-8 in it stands as ``\\xHH`` in what a host sends."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match.group(1), 16)]), name.encode("utf-8", "surrogateescape"))


class Host:
    """The documents of a host by any of their names."""

    def __init__(self, kata):
        self.kata = kata
        self.documents = kata["documents"]
        self.texts = unpack(kata["texts_z"])
        self.absent = set(kata["absent"])
        self.memo = {}  # what was computed of a document, by whoever computed it
        self._real = {}
        for real, document in self.documents.items():
            self._real.update(dict.fromkeys([real] + document["names"], real))

    def resolve(self, name):
        """The real path of a name, or ``None``."""
        return self._real.get(posixpath.normpath(name))

    def known(self, name):
        """Was this name looked at on the host?"""
        name = posixpath.normpath(name)
        return name in self._real or name in self.absent

    def text(self, real):
        """The text of a document, or ``None``."""
        return self.texts.get((self.documents.get(real) or {}).get("sha256"))

    def source(self, real):
        """A document as :func:`_kata_toml.effective` wants it."""
        document = self.documents.get(real) or {"kind": "missing", "reason": "No such file or directory"}
        return {"path": real, "text": self.text(real), "kind": document["kind"], "reason": document["reason"]}

    def file(self, path):
        """``{exists, kind, size}`` of a path that a configuration of Kata names, or None where the host did not look."""
        return (self.kata.get("files") or {}).get(path)

    def named(self, names):
        """Paths and patterns that the user gave, with the patterns replaced by what they matched on the host."""
        return [path for name in names for path in self.kata["globs"].get(name, [name])]

    def shim(self, path):
        """The record of a shim, or ``None`` when it was not looked at."""
        return self.kata["shims"].get(path) if path else None

    def shim_chain(self, path):
        """The paths of a shim and of those that it starts, the binary last."""
        found = []
        while path and path not in found:
            found.append(path)
            path = (self.shim(path) or {}).get("target")
        return found

    def binary(self, path):
        """The record of the binary behind a shim's wrappers, or ``None``."""
        return self.shim(self.shim_chain(path)[-1]) if path else None


def unpack(texts_z):
    """The texts of a host by the sha256 of their file."""
    engine = zlib.decompressobj()
    plain = engine.decompress(base64.b64decode(texts_z), MAX_TEXTS)
    if engine.unconsumed_tail:
        raise ValueError("a host sent more than %d bytes of configuration" % MAX_TEXTS)
    return json.loads(plain.decode("ascii"))


def runtime_kind(host, shim):
    """``("go" | "rs", reason)`` of a shim, or ``(None, reason)``.

    By ``runtime-rs/`` in its path (kata-deploy and the static tarballs put it there), then by what ``--version`` says.
    """
    record = host.binary(shim)
    if record is None or record["kind"] == "missing":
        if shim and "/runtime-rs/" in shim:
            return "rs", "its shim's path names runtime-rs (the file is missing)"
        if shim and _GO_SHIM.search(shim):
            return "go", "its shim's path is the Go runtime's (the file is missing)"
        return None, "no shim was found for it"
    if "/runtime-rs/" in record["real_path"]:
        return "rs", "its shim is %s" % record["real_path"]
    version = record["version_text"] or ""
    for word, kind in (("golang", "go"), ("rust", "rs")):
        if word in version.lower():
            return kind, "its shim says: %s" % version
    if record["kind"] != "script":
        return "go", "its shim is %s, not below runtime-rs/" % record["real_path"]
    if (host.kata["releases"].get(record["prefix"]) or {}).get("version") and _GO_SHIM.search(record["real_path"]):
        return "go", "its shim is %s, in the Go runtime's place of an installation" % record["real_path"]
    return None, "%s is a script that starts no shim that could be told" % record["real_path"]


def release_of(host, shim, config):
    """``(release, its source)`` of the installation that a shim, or else a configuration file, belongs to; ``(None, None)`` when nothing tells."""
    record = host.binary(shim) or {"prefix": None, "version_text": None}
    prefix = record["prefix"]
    if prefix is None and config and SHARE in config:
        prefix = config.split(SHARE, 1)[0]
    known = host.kata["releases"].get(prefix) or {}
    if known.get("version"):
        return known["version"], known["version_source"]
    match = _VERSION.search(record["version_text"] or "")
    return (match.group(1), "%s --version" % record["real_path"]) if match else (None, None)


def installed_shim(host, kind, prefix):
    """The path of the one shim of a kind that is installed (at a prefix, if given), or ``None``."""
    found = {}
    for path, record in host.kata["shims"].items():
        if record["kind"] in ("elf", "other") and prefix in (None, record["prefix"]) and runtime_kind(host, path)[0] == kind:
            found.setdefault(record["real_path"], path)
    return next(iter(found.values())) if len(found) == 1 else None
