# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that version 0.1 of the collection left on a host, as entries of the journal. PRIVATE to kataops.aio.

Version 0.1 kept several records below the journal's folder: ``ledger/`` and ``originals/`` (files), and ``limits/`` (the sysctl file and the live
limits). They are read as they are until a run that changes something folds them in, once: the new entries are written, then the old folder is
renamed, which is what decides, then removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.durable import sync_folder

LEDGER, ORIGINALS, LIMITS = "ledger", "originals", "limits"
SYSCTL_FILE = "/etc/sysctl.d/60-kataops-aio.conf"
SYSCTL_HEADER = b"# Written by the Ansible collection kataops.aio;"
_FOLDED = ".folded"
_ENTRY = re.compile(r"(\d{8})\.(prepared|committed|done|taken_back)\.json")
_STATES = {"prepared": "prepared", "committed": "committed", "done": "done", "taken_back": "reverted"}

Data = t.Dict[str, t.Any]


def entries(folder: str, recorded: list[Data]) -> list[tuple[Data, dict[str, bytes]]]:
    """The records as entries of the journal with their ``state``, each with the contents that it needs beside ``originals``.

    :arg recorded: the entries that the journal has already. A fold that was interrupted has written some of ours; they have the same numbers.
    :raises AioError: if a record is damaged.
    """
    found: list[tuple[Data, dict[str, bytes]]] = [(entry, {}) for entry in _ledger(os.path.join(folder, LEDGER))]
    limits = _limits(os.path.join(folder, LIMITS), SYSCTL_FILE, found[-1][0]["seq"] + 1 if found else 1)
    found += [limits] if limits else []
    times = {entry["seq"]: entry["time"] for entry in recorded}
    if any(times.get(entry["seq"], entry["time"]) != entry["time"] for entry, _contents in found):
        # Version 0.1 ran here again after its records had been folded in.
        for entry, _contents in found:
            entry["seq"] += max(times)
    return found


def fold(journal: t.Any) -> None:
    """Write the records into the journal, which is held, and remove them."""
    for name in os.listdir(journal.folder):
        if name.endswith(_FOLDED):
            shutil.rmtree(os.path.join(journal.folder, name))
    if not any(os.path.isdir(os.path.join(journal.folder, name)) for name in (LEDGER, LIMITS, ORIGINALS)):
        return
    for entry, contents in entries(journal.folder, journal.recorded()):
        state = entry.pop("state")
        for content in contents.values():
            journal.keep(content)
        for change in entry["changes"]:
            for which in ("before", "after", "original"):
                _keep_original(journal, change[which])
        journal.record(entry, state)
    for name in (LIMITS, LEDGER, ORIGINALS):
        path = os.path.join(journal.folder, name)
        if os.path.isdir(path):
            os.rename(path, path + _FOLDED)
    sync_folder(journal.folder)
    fold(journal)


def _keep_original(journal: t.Any, state: Data) -> None:
    path = os.path.join(journal.folder, ORIGINALS, state.get("sha256") or "-")
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            journal.keep(stream.read())


def _damaged(path: str, why: object) -> AioError:
    return AioError(
        "this record of version 0.1 is damaged: %s" % why, path, remedy="restore it from a backup, or move it away if its change is no longer needed"
    )


def _json(path: str) -> Data:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, exc) from exc
    if not isinstance(found, dict) or found.get("schema_version") != 1:
        raise _damaged(path, "its schema version is not 1")
    return found


def _ledger(folder: str) -> list[Data]:
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    old = []
    for match in filter(None, map(_ENTRY.fullmatch, names)):
        path = os.path.join(folder, match.string)
        entry = _json(path)
        try:
            old.append((match.group(2), entry, [_change(change) for change in entry["changes"]]))
        except (KeyError, TypeError, AttributeError) as exc:
            raise _damaged(path, "%s: %s" % (type(exc).__name__, exc)) from exc
    chains = _chains(old)
    newest: dict[str, Data] = {}
    converted = []
    for state, entry, changes in old:
        for change in changes:
            chain = chains.get(change["name"])
            if state in ("prepared", "committed"):
                change["original"] = chain[0]["before"] if chain else change["before"]
            elif state == "done":
                newest[change["name"]] = change
        head = {key: entry.get(key) for key in ("seq", "time", "collection_version", "tool", "kind")}
        plain = [{key: value for key, value in change.items() if not key.startswith("_")} for change in changes]
        converted.append((dict(head, schema_version=2, state=_STATES[state]), plain, changes))
    for name, chain in chains.items():
        # An entry that took back the newest of several changes leaves those before it standing.
        newest[name]["original"], newest[name]["info"] = chain[0]["before"], chain[-1]["info"]
    found = []
    for head, _plain, changes in converted:
        found.append(dict(head, changes=[{key: value for key, value in change.items() if not key.startswith("_")} for change in changes]))
    return found


def _change(old: Data) -> Data:
    data = {key: old.get(key) for key in ("staged", "saved")}
    data.update({key: list(old[key]) for key in ("created_folders", "remove_folders")}, whole_file=bool(old["whole_file"]))
    for state in (old["before"], old["after"]):
        if not isinstance(state["absent"], bool) or (not state["absent"] and not isinstance(state["sha256"], str)):
            raise TypeError("a state without content")
    return {
        "kind": "file",
        "name": str(old["path"]),
        "before": dict(old["before"]),
        "after": dict(old["after"]),
        "original": dict(old["after"]),
        "data": data,
        "info": dict(old["info"]),
        "_undoes": list(old["undoes"]),
        "_clears": bool(old["clears"]),
        "_whole": bool(old["whole_file"]),
    }


def _chains(old: list[tuple[str, Data, list[Data]]]) -> dict[str, list[Data]]:
    """What of each file's changes still stands, oldest first, by the rules of version 0.1."""
    chains: dict[str, list[Data]] = {}
    closed, undone = set(), {}
    for state, entry, changes in reversed(old):
        for change in changes if state == "done" else ():
            name = change["name"]
            undone.setdefault(name, set()).update(change["_undoes"])
            if change["_undoes"] or entry["seq"] in undone[name] or name in closed:
                continue
            if change["_clears"]:
                closed.add(name)
                continue
            chain = chains.setdefault(name, [])
            edited = chain and not chain[0]["before"]["absent"] and change["_whole"]
            if chain and not edited and change["after"].get("sha256") != chain[0]["before"].get("sha256"):
                closed.add(name)
                continue
            chain.insert(0, change)
    return {name: chain for name, chain in chains.items() if chain}


def _limits(folder: str, sysctl_file: str, seq: int) -> tuple[Data, dict[str, bytes]] | None:
    """The sysctl file and the live limits; None if there is no record, or one that was only begun (nothing was changed after it)."""
    paths = [os.path.join(folder, name) for name in ("before.json", "after.json")]
    if not all(os.path.exists(path) for path in paths):
        return None
    before, after = map(_json, paths)
    contents: dict[str, bytes] = {}
    info = {"runtimes": [], "method": "sysctl"}
    changes = []
    try:
        for name, key in (("fs.aio-max-nr", "aio_max_nr"), ("kernel.io_uring_disabled", "io_uring_disabled")):
            if before[key] is not None and before[key] != after[key]:
                old, new = ({"absent": False, "value": "%d" % int(side[key])} for side in (before, after))
                changes.append({"kind": "value", "name": name, "before": old, "after": new, "original": old, "data": {}, "info": info})
        original: Data = {"absent": True}
        if before["file"]["exists"]:
            kept = os.path.join(folder, os.path.basename(sysctl_file))
            with open(kept, "rb") as stream:
                content = stream.read()
            original = _file_state(content, before["file"])
            contents[original["sha256"]] = content
    except (KeyError, TypeError, ValueError) as exc:
        raise _damaged(paths[0], "%s: %s" % (type(exc).__name__, exc)) from exc
    written = _ours(sysctl_file)
    if written is not None:
        state = _file_state(written, {"mode": "0644", "uid": 0, "gid": 0})
        contents[state["sha256"]] = written
        data = {"staged": None, "saved": None, "created_folders": [], "remove_folders": [], "whole_file": True}
        changes.append({"kind": "file", "name": sysctl_file, "before": original, "after": state, "original": original, "data": data, "info": info})
    entry = {"schema_version": 2, "seq": seq, "time": None, "collection_version": None, "tool": "libaio", "kind": "change", "state": "done"}
    return dict(entry, changes=changes), contents


def _ours(path: str) -> bytes | None:
    """The sysctl file, if it still begins with our words: version 0.1 did not record what it wrote."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(1 << 20)
    except OSError:
        return None
    return content if content.startswith(SYSCTL_HEADER) else None


def _file_state(content: bytes, like: Data) -> Data:
    digest = hashlib.sha256(content).hexdigest()
    found = {"absent": False, "sha256": digest, "size": len(content), "mode": like["mode"], "uid": like["uid"], "gid": like["gid"]}
    return dict(found, mtime_ns=None, links=1, xattrs=None)
