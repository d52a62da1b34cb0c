# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kata would read if files of a host were other than they are. Pure. PRIVATE to kataops.aio.

The observations (contract ``kata``) are changed as the host would be, so a preview goes through the very code that reads a host.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import posixpath
import typing as t
import zlib

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.documents import Host, unpack
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.effective import FATAL, effective

Data = t.Dict[str, t.Any]


def digest(text: str) -> str:
    """The sha256 of a text's bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def real_folder(kata: Data, folder: str) -> str:
    """The real path of a ``config.d``; of any other folder the path itself."""
    record = kata["config_dirs"].get(folder)
    return record["real_path"] if record and record["real_path"] else folder


def real_path(kata: Data, path: str) -> str:
    """The real path of a drop-in (its ``config.d`` may be a symlink), or of a base file (which is real already)."""
    folder, name = posixpath.split(path)
    return posixpath.join(real_folder(kata, folder), name)


def present_digest(kata: Data, path: str) -> str | None:
    """The sha256 of a regular file as it was observed; None where there is none.

    :raises AioError: where there is something else.
    """
    record = kata["config_dirs"].get(posixpath.dirname(path))
    if record is not None:
        entry = next((entry for entry in record["entries"] if entry["name"] == posixpath.basename(path)), None)
        if entry is None:
            return None
        if entry["kind"] != "regular":
            raise AioError("this is a %s" % entry["kind"], path, "a regular file, or nothing", "move it away: Kata reads whatever is in a config.d")
    document = kata["documents"].get(real_path(kata, path))
    return document["sha256"] if document else None


def patched(kata: Data, files: dict[str, str | None]) -> Data:
    """The observations as they would be with ``files`` (path → text, or None for a removed file)."""
    kata = copy.deepcopy(kata)
    texts = unpack(kata["texts_z"])
    for path, text in files.items():
        folder, name = posixpath.split(path)
        real = real_path(kata, path)
        for here, record in kata["config_dirs"].items():
            if real_folder(kata, here) != posixpath.dirname(real):
                continue
            record["entries"] = [entry for entry in record["entries"] if entry["name"] != name]
            if text is not None:
                if record["kind"] == "missing":
                    record.update(kind="directory", real_path=folder)
                record["entries"].append({"name": name, "kind": "regular", "target": None, "document": real, "reason": None})
        if text is None:
            kata["documents"].pop(real, None)
            continue
        document = kata["documents"].setdefault(real, {"names": [path], "mode": "0644", "uid": 0, "gid": 0})
        document.update(kind="regular", reason=None, sha256=digest(text), size=len(text.encode()))
        texts[digest(text)] = text
    kata["texts_z"] = base64.b64encode(zlib.compress(json.dumps(texts).encode("ascii"))).decode("ascii")
    return kata


def runtimes_by_id(kata: Data, keys: t.Iterable[str] = ()) -> dict[str, Data]:
    """The runtimes of the observations, by id.

    :arg keys: keys that the user named. Discovery keeps a value of the base file only where judging needs it; these are kept besides.
    """
    host = Host(kata)
    found = {}
    for runtime in discover(kata):
        missing = [key for key in keys if key not in runtime["values"]]
        if missing:
            path = runtime["config"]["real_path"] or runtime["id"]
            base = effective(host.source(path), (), runtime["runtime"] or "go", runtime["release"])["values"]
            runtime["values"].update({key: base[key] for key in missing if key in base})
            runtime["sources"].update({key: path for key in missing if key in base})
        found[runtime["id"]] = runtime
    return found


def shortfalls(runtime: Data | None, keys: Data) -> list[str]:
    """Why ``keys`` would not be what this runtime reads; empty where they are."""
    if runtime is None:
        return ["the runtime is not found any more"]
    if runtime["refused"]:
        problems = [p for p in runtime["problems"] if p["code"] in FATAL] or runtime["problems"]
        return ["Kata refuses the configuration: %s: %s (%s)" % (p["where"], p["detail"], p["code"]) for p in problems]
    return [
        "%s is %r instead of %r, by %s" % (key, runtime["values"].get(key), value, runtime["sources"].get(key, "no file"))
        for key, value in keys.items()
        if runtime["values"].get(key) != value or type(runtime["values"].get(key)) is not type(value)
    ]


def effective_text(runtime: Data | None, keys: t.Iterable[str]) -> str:
    """The effective values of ``keys`` with where each comes from, as the lines of a diff."""
    if runtime is None:
        return ""
    values, sources = runtime["values"], runtime["sources"]
    return "".join("%s = %s    (%s)\n" % (key, json.dumps(values[key]), sources.get(key, "default")) for key in sorted(keys) if key in values)
