# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a user wants of Kata's configuration to the files that have to change. Pure. PRIVATE to kataops.aio.

``ledger`` is what the host half tells of our changes that still stand: ``{path: {original, after, created, info}}`` with STATEs of the journal and the
``info`` that was recorded: ``{runtimes: [{id, handlers}], method, keys, edits}``.
"""

from __future__ import annotations

import base64
import dataclasses
import posixpath
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._change import edit, preview
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import keys as kata_keys
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.settings import wanted_keys

Data = t.Dict[str, t.Any]

#: Keys that the Go runtime has had in every release with drop-ins (block_device_aio: from 3.0.0, which discovery looks after).
LONG_KNOWN = frozenset(("path", "block_device_aio", "block_device_cache_set", "block_device_cache_direct", "block_device_cache_noflush", "block_device_driver"))


@dataclasses.dataclass
class Wish:
    """What one runtime is to have, and how it gets it."""

    runtime: Data
    keys: Data
    method: str  # what was asked for: auto, drop_in, base_file
    notes: list[str]
    chosen: str = ""  # drop_in or base_file
    path: str = ""  # the file that carries the keys
    requested_engine: str | None = None  # the engine that was wanted, where this one is only the best that works

    @property
    def base(self) -> str:
        return self.runtime["config"]["real_path"] or self.runtime["id"]

    @property
    def folder(self) -> str:
        return self.runtime["config_dir"]["path"]


def select(runtimes: list[Data], names: list[str]) -> list[Data]:
    """The runtimes that ``names`` (handlers, configuration files, ids) mean; without names every QEMU runtime.

    :raises AioError: for a name that means none, or none with QEMU, and where there is no QEMU runtime at all.
    """
    qemu = [runtime for runtime in runtimes if runtime["hypervisor"] == "qemu"]
    if not names:
        if not qemu:
            broken = [problem for r in runtimes if r["hypervisor"] is None for problem in r["problems"] if problem["code"].startswith("base_")]
            if broken:
                detail = broken[0]["detail"] or broken[0]["code"]
                raise AioError("Kata's configuration cannot be read: %s" % detail, broken[0]["where"], remedy="correct the file, or restore it from a backup")
            found = ", ".join("%s (%s)" % (r["id"], r["hypervisor"] or "no hypervisor to be told") for r in runtimes)
            raise AioError(
                "no Kata runtime with QEMU was found%s" % (": there is only %s" % found if found else ""),
                "runtimes",
                remedy="install Kata Containers, or name its configuration file in runtimes",
            )
        return qemu
    chosen = []
    for name in names:
        meant = [r for r in runtimes if name in r["handlers"] or name in (r["id"], r["config"]["asked"], r["config"]["real_path"])]
        if not meant:
            known = sorted({known for r in runtimes for known in r["handlers"] + [r["id"]]})
            raise AioError("there is no such Kata runtime on this host", "runtimes: %s" % name, "one of %s" % ", ".join(known) if known else None)
        for runtime in meant:
            if runtime["hypervisor"] != "qemu":
                raise AioError("this runtime's hypervisor is %s" % (runtime["hypervisor"] or "not to be told"), "runtimes: %s" % name, "a QEMU runtime")
            if runtime not in chosen:
                chosen.append(runtime)
    return chosen


def wishes(runtimes: list[Data], requests: list[Data]) -> list[Wish]:
    """The wish of each selected runtime.

    :arg requests: ``[{runtimes: [names], engine, settings, qemu_path, method, requested_engine}]``; engine, settings and qemu_path may be None.
    :raises AioError: where a runtime cannot have what it is to have, or is to have two different things.
    """
    found: dict[str, Wish] = {}
    for request in requests:
        for runtime in select(runtimes, request["runtimes"]):
            keys: Data = {}
            notes: list[str] = []
            qemu_path = str(request["qemu_path"]) if request["qemu_path"] else None
            if request["engine"]:
                try:
                    keys, notes = wanted_keys(str(request["engine"]), runtime["runtime"], runtime["release"], qemu_path)
                except AioError as exc:
                    exc.where = "%s (%s)" % (runtime["id"], ", ".join(runtime["handlers"]) or "no handler")
                    raise
            elif qemu_path:
                keys["path"] = qemu_path
            keys.update({key: edit.plain_value(key, value) for key, value in (request["settings"] or {}).items()})
            if runtime["id"] in found:
                raise AioError("this runtime is asked for twice", runtime["id"], remedy="name it once")
            remarks = ["%s: %s" % (runtime["id"], note) for note in notes]
            found[runtime["id"]] = Wish(runtime, keys, request["method"], remarks, requested_engine=request.get("requested_engine"))
    return list(found.values())


def choose_methods(all_runtimes: list[Data], wanted: list[Wish], ledger: Data, drop_in_name: str) -> None:
    """Decide for each wish whether a drop-in carries its keys, or its base file.

    A base file that has our keys already goes on having them, unless a drop-in is forced: the next run would else decide by what this one wrote.

    :raises AioError: where the way that was forced is unsafe.
    """
    for wish in wanted:
        known = ledger.get(wish.base)
        if wish.method == "auto" and known and wish.runtime["config"]["sha256"] == known["after"].get("sha256"):
            wish.method = "base_file"
    for wish in wanted:
        obstacle = _obstacle(all_runtimes, wanted, wish)
        if wish.method == "drop_in" and obstacle:
            raise AioError("a drop-in is unsafe here: %s" % obstacle, wish.folder, remedy="use method: auto or base_file")
        if obstacle and wish.method == "auto":
            wish.notes.append("%s: edited into the base file, for a drop-in would be unsafe: %s" % (wish.runtime["id"], obstacle))
        wish.chosen = "base_file" if obstacle or wish.method == "base_file" else "drop_in"
        wish.path = wish.base if wish.chosen == "base_file" else posixpath.join(wish.folder, drop_in_name)
    for wish in wanted:
        for other in wanted:
            clash = [key for key in wish.keys if key in other.keys and other.keys[key] != wish.keys[key]]
            if other.path == wish.path and clash:
                raise AioError(
                    "two runtimes read this file, and are to have different values of %s" % ", ".join(clash),
                    wish.path,
                    remedy="give them the same settings",
                    runtimes=[wish.runtime["id"], other.runtime["id"]],
                )


def _obstacle(all_runtimes: list[Data], wanted: list[Wish], wish: Wish) -> str | None:
    """Why a drop-in with this wish's keys would be unsafe; None where it is not."""
    runtime = wish.runtime
    if not runtime["drop_in"]["safe"]:
        return runtime["drop_in"]["reason"]
    beside = runtime["config_dir"]["shared_with"]
    readers = [r for r in all_runtimes if r["config_dir"]["path"] == wish.folder or r["config"]["real_path"] in beside]
    if any(reader["runtime"] != "rs" for reader in readers):
        for key in sorted(wish.keys):
            if key not in kata_keys.table("go", "hypervisor"):
                return "no known release of the Go runtime has the key %s, and it refuses a drop-in with an unknown key" % key
            if key not in LONG_KNOWN and runtime["sources"].get(key, "default") == "default":
                return "nothing shows that this release of the Go runtime has the key %s, and it refuses a drop-in with an unknown key" % key
    by_id = {other.runtime["id"]: other for other in wanted}
    for reader in readers:
        other = by_id.get(reader["id"])
        if reader["hypervisor"] != "qemu":
            return "%s reads the same config.d, and its hypervisor is %s" % (reader["id"], reader["hypervisor"] or "not known")
        if other is None:
            return "%s reads the same config.d, and is not to be changed" % reader["id"]
        if other.method == "base_file":
            return "%s reads the same config.d, and has its keys in its base file" % reader["id"]
        if any(key in other.keys and other.keys[key] != value for key, value in wish.keys.items()):
            return "%s reads the same config.d, and is to have other settings" % reader["id"]
    return None


@dataclasses.dataclass
class Change:
    """One file that has to become another."""

    path: str
    old: bytes | None
    new: bytes | None
    expected_sha256: str | None
    info: Data
    remove_folders: list[str]
    mtime_ns: int | None = None  # of the file that is put back; None: now
    without_us: bytes | None = None  # the old content without our edits, where the file was edited by us before

    def as_request(self) -> Data:
        """What the host half wants to be given."""
        return {
            "kind": "file",
            "name": self.path,
            "expected_sha256": self.expected_sha256,
            "content_b64": None if self.new is None else base64.b64encode(self.new).decode(),
            "original_b64": None if self.without_us is None else base64.b64encode(self.without_us).decode(),
            "info": self.info,
            "mtime_ns": self.mtime_ns,
            "whole_file": self.info["method"] == "drop_in",
            "remove_folders": self.remove_folders,
        }


def _union(members: list[Wish]) -> Data:
    keys: Data = {}
    for member in members:
        keys.update(member.keys)
    return keys


def _info(members: list[Wish], method: str, keys: Data, edits: list[Data]) -> Data:
    runtimes = [
        {"id": m.runtime["id"], "handlers": m.runtime["handlers"], "release": m.runtime["release"], "requested_engine": m.requested_engine} for m in members
    ]
    return {"runtimes": runtimes, "method": method, "keys": keys, "edits": edits}


def files_to_write(kata: Data, ledger: Data, wanted: list[Wish]) -> dict[str, Data]:
    """The files whose content has to be looked at or changed, by path: ``{kind: drop_in | base_file, members, keys, present: bool}``.

    Empty where everything stands as it should. ``keys`` is empty where the file is to have none of ours (any more). A drop-in is not written where
    the keys are in effect without it.
    """
    found: dict[str, Data] = {}
    for folder in sorted({preview.real_folder(kata, wish.folder) for wish in wanted}):
        members = [wish for wish in wanted if preview.real_folder(kata, wish.folder) == folder]
        by_drop_in = [wish for wish in members if wish.chosen == "drop_in"]
        target = by_drop_in[0].path if by_drop_in else None
        for path in sorted(ledger):
            mine = preview.real_folder(kata, posixpath.dirname(path)) == folder and ledger[path]["info"].get("method") == "drop_in" and path != target
            if mine and preview.present_digest(kata, path) is not None:
                found[path] = {"kind": "drop_in", "members": members, "keys": {}}
        for base in sorted({wish.base for wish in members}):
            owners = [wish for wish in members if wish.base == base]
            by_base = [wish for wish in owners if wish.chosen == "base_file"]
            known = ledger.get(base)
            keys = _union(by_base)
            recorded = known["info"].get("keys") if known else None
            short = any(preview.shortfalls(wish.runtime, wish.keys) for wish in by_base)
            if short or (by_base and found) or (recorded is not None and recorded != keys):
                found[base] = {"kind": "base_file", "members": owners, "keys": keys}
        if target:
            keys = _union(by_drop_in)
            there = preview.present_digest(kata, target)
            stale = there is not None and there != preview.digest(edit.drop_in_text("qemu", keys))
            short = any(preview.shortfalls(wish.runtime, wish.keys) for wish in by_drop_in)
            bases = {wish.base for wish in members}
            moved = any(path in bases or preview.real_folder(kata, posixpath.dirname(path)) == folder for path in found)
            if keys and (stale or (there is None and (short or moved))):
                found[target] = {"kind": "drop_in", "members": by_drop_in, "keys": keys}
            elif not keys and there is not None:
                found[target] = {"kind": "drop_in", "members": by_drop_in, "keys": {}}
    return found


def changes_of(kata: Data, ledger: Data, files: dict[str, Data], contents: Data) -> list[Change]:
    """The changes of :func:`files_to_write`'s files.

    :arg contents: ``{path: {present: bytes | None, original: bytes | None}}``, as the host has them now and (by the ledger) had them before us.
    """
    changes = []
    for path, file in files.items():
        present, original = contents[path]["present"], contents[path]["original"]
        edits: list[Data] = []
        without_us = None
        if file["kind"] == "drop_in":
            new = edit.drop_in_text("qemu", file["keys"]).encode() if file["keys"] else None
        elif present is None:
            raise AioError("the configuration file is missing", path, "Kata's configuration", "install Kata Containers again, or name another runtime")
        else:
            text = _pristine(path, present, original, ledger.get(path))
            without_us = text.encode() if path in ledger else None
            if file["keys"]:
                kinds = [member.runtime["runtime"] for member in file["members"]]
                text, edits = edit.set_keys(text, "qemu", file["keys"], kinds, path)
            new = text.encode()
        if new != present:
            expected = preview.present_digest(kata, path)
            folders = ledger.get(path, {}).get("created", []) if new is None else []
            # kata-deploy up to 3.24 copies a file only over an older one, so what is put back gets its time back too.
            mtime_ns = ledger[path]["original"].get("mtime_ns") if original is not None and new == original else None
            changes.append(Change(path, present, new, expected, _info(file["members"], file["kind"], file["keys"], edits), folders, mtime_ns, without_us))
    return changes


def _pristine(path: str, present: bytes, original: bytes | None, known: Data | None) -> str:
    """A base file without our edits: the original where nobody else touched it since, else the present one with our edits taken out."""
    text = edit.decode(present, path)
    if known is None:
        return text
    if original is not None:
        return edit.decode(original, path)
    return edit.unset_keys(text, "qemu", known["info"].get("edits", []), path)


def files_to_clear(kata: Data, ledger: Data, selected: list[Data], drop_in_name: str) -> dict[str, Data]:
    """As :func:`files_to_write`, for taking our keys out of the selected runtimes.

    :raises AioError: where a file of ours serves a runtime that is not selected.
    """
    found: dict[str, Data] = {}
    members = [Wish(runtime, {}, "auto", []) for runtime in selected]
    ids = {runtime["id"] for runtime in selected}
    for wish in members:
        own = [
            path for path in sorted(ledger) if path == wish.base or (posixpath.dirname(path) == wish.folder and ledger[path]["info"].get("method") == "drop_in")
        ]
        own = [path for path in own if preview.present_digest(kata, path) is not None]
        unrecorded = posixpath.join(wish.folder, drop_in_name)
        if preview.present_digest(kata, unrecorded) is not None and unrecorded not in own:
            own.append(unrecorded)
        for path in own:
            others = sorted({r["id"] for r in (ledger.get(path) or {"info": {}})["info"].get("runtimes", [])} - ids)
            if others:
                raise AioError("this file serves other runtimes, too", path, remedy="add %s to runtimes" % ", ".join(others))
            kind = "base_file" if path == wish.base else "drop_in"
            found.setdefault(path, {"kind": kind, "members": [], "keys": {}})["members"].append(wish)
    return found


def check_foreign(path: str, content: bytes | None, known: Data | None, force: bool) -> None:
    """Refuse to remove a drop-in that neither the ledger nor its own words call ours."""
    if known is None and content is not None and not force and not content.startswith(edit.HEADER.encode()):
        raise AioError("this file has our name, but we did not write it", path, remedy="look at it, then remove it by hand or run again with force: true")


def without_us(path: str, content: bytes, info: Data) -> bytes | None:
    """A file that another program changed after us, without our part: None if nothing else would be left of it.

    :arg info: what the journal recorded of our change.
    :raises AioError: if our part cannot be told from the rest.
    """
    text = edit.decode(content, path)
    if info.get("method") == "base_file":
        return edit.unset_keys(text, "qemu", info.get("edits", []), path).encode()
    if info.get("method") != "drop_in":
        raise AioError("this is not a file of Kata's configuration", path)
    edits = [{"key": key, "spelling": key, "old": None, "new": edit.value_text(value)} for key, value in info.get("keys", {}).items()]
    rest = edit.unset_keys(text, "qemu", edits, path)
    return None if edit.is_empty(rest, path) else rest.encode()
