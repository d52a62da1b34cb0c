# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a QEMU tree, its bill of materials and its archive. PRIVATE to kataops.aio.

A tree holds regular files and folders only. Its archive is a tar in xz form (read by Python's own library on every managed node) with one
top folder named as the tree's id, and the manifest as its first file, so that all can be judged before anything is written.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import lzma
import os
import re
import stat
import tarfile
import uuid

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

SCHEMA_VERSION = 1
NAME = "manifest.json"
SBOM = "sbom.cdx.json"

#: A manifest is small (one line a file); more than this is no manifest of ours.
MAX_BYTES = 4 * 1024 * 1024

_ID = re.compile(r"qemu-[A-Za-z0-9][A-Za-z0-9.+~_-]{0,120}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MODES = ("0644", "0755")
_FIELDS = {
    "schema_version": int,
    "id": str,
    "version": str,
    "architecture": str,
    "linkage": str,
    "engines": list,
    "source": dict,
    "binary": str,
    "data_dir": str,
    "files": list,
}


def valid_id(tree_id):
    """``tree_id`` if it can be a tree's name (and so a single folder's), else AioError."""
    if not isinstance(tree_id, str) or not _ID.match(tree_id) or ".." in tree_id:
        raise AioError("not the id of a QEMU tree", where=str(tree_id), expected="qemu-<version>-<architecture>-<linkage>-<digest>")
    return tree_id


def valid_path(path, where):
    """``path`` if it is a plain relative path that cannot leave its tree, else AioError."""
    parts = path.split("/") if isinstance(path, str) else []
    if not parts or path.startswith("/") or any(part in ("", ".", "..") for part in parts) or re.search(r"[\x00-\x1f\\]", path):
        raise AioError("a file's path would leave the tree or is not plain: %r" % (path,), where=where, expected="a relative path without ..")
    return path


def file_sha256(path):
    """sha256 (hex) of a file's bytes."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def walk(folder):
    """``(relative path, lstat)`` of everything below ``folder`` but folders, sorted; AioError for what no tree may hold."""
    found = []
    for base, names, files in os.walk(folder):
        names.sort()
        for name in names + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                continue
            relative = os.path.relpath(path, folder)
            if not stat.S_ISREG(status.st_mode):
                raise AioError("the tree holds something that is neither a file nor a folder", where=path, expected="regular files and folders only")
            found.append((relative, status))
    return sorted(found)


def describe(folder):
    """The manifest's ``files`` of a folder: ``[{path, sha256, size, mode}]`` (size in bytes, mode ``"0644"`` or ``"0755"``)."""
    return [
        {
            "path": relative,
            "sha256": file_sha256(os.path.join(folder, relative)),
            "size": status.st_size,
            "mode": "0755" if status.st_mode & 0o100 else "0644",
        }
        for relative, status in walk(folder)
        if relative != NAME
    ]


def dump(data):
    """The one form in which manifest and bill of materials are written: bytes of sorted, indented JSON."""
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def load(data, where):
    """A manifest from its bytes, checked in full.

    :raises AioError: not JSON, another schema, a missing field, an unsafe path, mode or id, or a file named twice.
    """
    expected = "a manifest.json written by kataops.aio (schema version %d)" % SCHEMA_VERSION
    if len(data) > MAX_BYTES:
        raise AioError("the manifest is larger than %d bytes" % MAX_BYTES, where=where, expected=expected)
    try:
        manifest = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise AioError("the manifest is not JSON: %s" % error, where=where, expected=expected) from None
    if not isinstance(manifest, dict):
        raise AioError("the manifest is not a JSON object", where=where, expected=expected)
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind) or isinstance(manifest.get(name), bool):
            raise AioError("the manifest's %s is missing or no %s" % (name, kind.__name__), where=where, expected=expected)
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise AioError(
            "the manifest has schema version %d" % manifest["schema_version"],
            where=where,
            expected="schema version %d" % SCHEMA_VERSION,
            remedy="use the release of kataops.aio that made the artifact, or build it again",
        )
    valid_id(manifest["id"])
    seen = set()
    for entry in manifest["files"]:
        _check_entry(entry, where)
        if entry["path"] in seen or entry["path"] == NAME:
            raise AioError("the manifest names a file twice: %s" % entry["path"], where=where, expected=expected)
        seen.add(entry["path"])
    if manifest["binary"] not in seen:
        raise AioError("the manifest's binary %r is not among its files" % manifest["binary"], where=where, expected=expected)
    return manifest


def head(manifest):
    """What a tree is made of, in short."""
    found = {key: manifest[key] for key in ("version", "architecture", "linkage", "engines", "source")}
    return dict(found, runtime_packages=manifest.get("runtime_packages") or [])


def _check_entry(entry, where):
    if not isinstance(entry, dict):
        raise AioError("an entry of the manifest's files is no object", where=where, expected="{path, sha256, size, mode}")
    valid_path(entry.get("path"), where)
    if not isinstance(entry.get("sha256"), str) or not _SHA256.match(entry["sha256"]):
        raise AioError("%s has no sha256 in the manifest" % entry["path"], where=where, expected="64 hexadecimal digits")
    if not isinstance(entry.get("size"), int) or isinstance(entry["size"], bool) or entry["size"] < 0:
        raise AioError("%s has no size in the manifest" % entry["path"], where=where, expected="a number of bytes")
    if entry.get("mode") not in _MODES:
        raise AioError("%s has the mode %r in the manifest" % (entry["path"], entry.get("mode")), where=where, expected=" or ".join(_MODES))


def bill_of_materials(fields, files):
    """A CycloneDX 1.5 document: QEMU, the libraries and tools of its builder, and the tree's files.

    :arg fields: the manifest's fields; ``toolchain`` (``{package: version}``) may be missing where another party built the binary.
    :arg files: what :func:`describe` returned.
    """
    toolchain = sorted((fields.get("toolchain") or {}).items())
    libraries = [
        {"type": "library", "name": name, "version": version, "scope": "required" if fields["linkage"] == "static" else "optional"}
        for name, version in toolchain
        if version and name.endswith(("-dev", "-devel", "-static"))
    ]
    tools = [
        {"type": "application", "name": name, "version": version} for name, version in toolchain if version and not name.endswith(("-dev", "-devel", "-static"))
    ]
    contents = [{"type": "file", "name": entry["path"], "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}]} for entry in files]
    epoch = fields.get("source_date_epoch") or 0
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": "urn:uuid:%s" % uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/kataops/kataops.aio/trees/%s" % fields["id"]),
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": tools},
            "component": {
                "type": "application",
                "bom-ref": fields["id"],
                "name": "qemu",
                "version": fields["version"],
                "licenses": [{"license": {"id": "GPL-2.0-only"}}],
                "properties": [
                    {"name": "kataops:source:%s" % key, "value": str(value)} for key, value in sorted(fields["source"].items()) if value is not None
                ],
            },
        },
        "components": libraries + contents,
    }


def complete(folder, fields):
    """Writes the bill of materials and the manifest into a finished tree and returns the manifest.

    :arg fields: all manifest fields but ``schema_version`` and ``files``.
    """
    with open(os.path.join(folder, SBOM), "wb") as handle:
        handle.write(dump(bill_of_materials(fields, [entry for entry in describe(folder) if entry["path"] != SBOM])))
    os.chmod(os.path.join(folder, SBOM), 0o644)
    manifest = dict(fields, schema_version=SCHEMA_VERSION, files=describe(folder))
    data = dump(manifest)
    load(data, folder)
    with open(os.path.join(folder, NAME), "wb") as handle:
        handle.write(data)
    os.chmod(os.path.join(folder, NAME), 0o644)
    return manifest


def write_archive(folder, manifest, path):
    """Packs a completed tree; equal trees give equal bytes (with one release of liblzma). Returns ``{sha256, size}``."""
    epoch = int(manifest.get("source_date_epoch") or 0)
    top = manifest["id"]
    folders = {top}
    for entry in manifest["files"]:
        parts = entry["path"].split("/")[:-1]
        folders.update("/".join([top] + parts[: end + 1]) for end in range(len(parts)))

    def member(name, kind, mode, size=0):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.mtime = kind, mode, size, epoch
        return info

    data = dump(manifest)
    with lzma.open(path, "wb", preset=6) as packed, tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member("%s/%s" % (top, NAME), tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
        for name in sorted(folders):
            archive.addfile(member(name, tarfile.DIRTYPE, 0o755))
        for entry in manifest["files"]:
            with open(os.path.join(folder, entry["path"]), "rb") as handle:
                archive.addfile(member("%s/%s" % (top, entry["path"]), tarfile.REGTYPE, int(entry["mode"], 8), entry["size"]), handle)
    return {"sha256": file_sha256(path), "size": os.path.getsize(path)}
