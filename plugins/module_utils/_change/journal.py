# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what the collection changed on a host, and what was there before. PRIVATE to kataops.aio.

Its folder, ``/var/lib/kataops-aio`` (mode 0700), holds

``lock``
    taken (``flock``) by everything that changes an object or the journal.
``contents/<sha256>``
    the bytes of every file before and after a change, by their digest.
``journal/<seq, 8 digits>.<state>.json``
    one transaction each, written and synced before the first object is touched. The state is part of the name, so that the next state is one rename,
    which needs no space on the disk:

    ``prepared``   recorded; nothing has gone live yet
    ``committed``  everything is staged and synced; the changes may be under way
    ``reverting``  they could not all be made, and what was made is being reverted
    ``done``       every object was seen as ``after`` says
    ``reverted``   every object was seen as ``before`` says

An entry (schema version 2)::

    {"schema_version": 2, "seq": 7, "time": "2026-11-27T17:30:00Z", "collection_version": "0.2.0", "tool": "kata_config", "kind": "change" | "rollback",
     "changes": [{
        "kind": "file" | "value" | ...,       which kind of object; its module says what STATE and ``data`` are
        "name": "/opt/kata/share/defaults/kata-containers/config.d/60-kataops-aio.toml",
        "before": STATE, "after": STATE,      the object as it was seen, and as it is to be
        "original": STATE,                    the object without anything of ours: what a rollback brings back
        "data": {...},                        what the kind needs to finish or revert the change
        "info": {...}                         plain data of the tool: which runtimes, which keys
     }]}

Whether something of ours stands on an object is decided by the newest ``done`` change of it alone: it does where ``after`` is not ``original``.
``original`` never holds anything of ours: it is carried on from change to change, and where another program wrote in between, it is what that program
wrote without our part.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import time
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.durable import TEMPORARY, sync_folder, write_durably
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder

FOLDER = "/var/lib/kataops-aio"
SCHEMA_VERSION = 2
PENDING = ("prepared", "committed", "reverting")
STATES = PENDING + ("done", "reverted")
LOCK_SECONDS = 60
KEEP_ENTRIES = 50
#: Folders of records that version 0.1 left.
LEGACY = ("ledger", "limits", "originals")

Entry = t.Dict[str, t.Any]
Change = t.Dict[str, t.Any]
State = t.Dict[str, t.Any]
#: An object: its kind and its name.
Key = t.Tuple[str, str]

_ENTRY = re.compile(r"(\d{8})\.(%s)\.json" % "|".join(STATES))


def key_of(change: Change) -> Key:
    """The object of a change."""
    return change["kind"], change["name"]


class Journal:
    """The journal in one folder. Reading needs no lock and creates nothing; whatever writes must hold :meth:`lock`."""

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = os.path.normpath(folder)
        self.entries_folder = os.path.join(self.folder, "journal")
        self.contents_folder = os.path.join(self.folder, "contents")

    @contextlib.contextmanager
    def lock(self) -> t.Iterator[Journal]:
        """Hold the journal for this process alone; missing folders are made.

        :raises AioError: if others than root can write to it, or another process holds it for longer than LOCK_SECONDS.
        """
        require_folder(self.folder, "keeping the journal")
        for folder in (self.folder, self.entries_folder, self.contents_folder):
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                sync_folder(os.path.dirname(folder))
            require_folder(folder, "carrying out what the journal says")
        fd = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _locked(fd):
                if time.monotonic() > deadline:
                    raise AioError(
                        "another run has held the journal for %d s" % LOCK_SECONDS,
                        os.path.join(self.folder, "lock"),
                        remedy="wait until that run ends (fuser names it), then run again",
                    )
                time.sleep(0.2)
            for folder in (self.entries_folder, self.contents_folder):
                for name in os.listdir(folder):
                    if name.endswith(TEMPORARY):
                        os.unlink(os.path.join(folder, name))
            self._fold_legacy()
            yield self
        finally:
            os.close(fd)

    def entries(self) -> list[Entry]:
        """All entries in order, each with its ``state``; empty if there is no journal yet.

        :raises AioError: if an entry cannot be read, or has a schema that this version does not know.
        """
        found = self.recorded()
        if self._has_legacy():
            from ansible_collections.kataops.aio.plugins.module_utils._change import legacy

            require_folder(self.folder, "carrying out what its records say")
            old = [entry for entry, _contents in legacy.entries(self.folder, found)]
            renewed = {entry["seq"] for entry in old}
            found = sorted([entry for entry in found if entry["seq"] not in renewed] + old, key=lambda entry: entry["seq"])
        return found

    def recorded(self) -> list[Entry]:
        """As :meth:`entries`, without what version 0.1 left."""
        try:
            names = sorted(os.listdir(self.entries_folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        require_folder(self.entries_folder, "carrying out what the journal says")
        return [dict(self._read(match.string), state=match.group(2)) for match in map(_ENTRY.fullmatch, names) if match]

    def _has_legacy(self) -> bool:
        return any(os.path.isdir(os.path.join(self.folder, name)) for name in LEGACY)

    def _fold_legacy(self) -> None:
        """Take over the records of version 0.1; see :mod:`legacy`."""
        if any(os.path.isdir(os.path.join(self.folder, name + suffix)) for name in LEGACY for suffix in ("", ".folded")):
            from ansible_collections.kataops.aio.plugins.module_utils._change import legacy

            legacy.fold(self)

    def _read(self, name: str) -> Entry:
        path = os.path.join(self.entries_folder, name)
        try:
            with open(path, encoding="utf-8") as stream:
                entry = json.load(stream)
        except ValueError as exc:
            raise AioError(
                "this journal entry is damaged: %s" % exc, path, remedy="restore it from a backup, or move it away if its change is no longer needed"
            ) from exc
        if entry.get("schema_version") != SCHEMA_VERSION:
            raise AioError(
                "this journal entry has schema version %r" % entry.get("schema_version"),
                path,
                "%d" % SCHEMA_VERSION,
                "use the version of the collection that wrote it (%s)" % entry.get("collection_version"),
            )
        return entry

    def pending(self) -> list[Entry]:
        """The entries that an interrupted run left unfinished."""
        return [entry for entry in self.entries() if entry["state"] in PENDING]

    def next_seq(self) -> int:
        """The number of the next entry."""
        entries = self.entries()
        return entries[-1]["seq"] + 1 if entries else 1

    def standing(self) -> dict[Key, tuple[Entry, Change]]:
        """What of ours stands: for each such object its newest change, and the entry of that; the oldest entry first."""
        return {key: (entry, change) for key, (entry, change) in _newest(self.entries()).items() if not same_content(change["after"], change["original"])}

    def _path(self, entry: Entry, state: str) -> str:
        return os.path.join(self.entries_folder, "%08d.%s.json" % (entry["seq"], state))

    def record(self, entry: Entry, state: str = "prepared") -> None:
        """Write an entry durably, new or in the place of its present form."""
        data = {key: value for key, value in entry.items() if key != "state"}
        write_durably(self._path(entry, state), json.dumps(data, indent=1, sort_keys=True).encode(), 0o600)
        entry["state"] = state

    def set_state(self, entry: Entry, state: str) -> None:
        """Move an entry on to ``state``, durably."""
        os.rename(self._path(entry, entry["state"]), self._path(entry, state))
        entry["state"] = state
        sync_folder(self.entries_folder)

    def keep(self, content: bytes) -> str:
        """Keep ``content`` durably; its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        path = os.path.join(self.contents_folder, digest)
        if not os.path.exists(path):
            write_durably(path, content, 0o600)
        return digest

    def content(self, digest: str) -> bytes:
        """The kept bytes with this digest, checked.

        :raises AioError: if they are gone or damaged.
        """
        path = os.path.join(self.contents_folder, digest)
        if not os.path.exists(path) and self._has_legacy():
            path = os.path.join(self.folder, "originals", digest)
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except FileNotFoundError as exc:
            raise AioError("the journal names this content, but it is gone", path, remedy="restore the folder from a backup") from exc
        if hashlib.sha256(content).hexdigest() != digest:
            raise AioError("this kept content is damaged", path, "sha256 %s" % digest, "restore the file from a backup")
        return content

    def prune(self) -> None:
        """Remove entries that nothing needs (all but the newest KEEP_ENTRIES), and contents that no entry names."""
        entries = self.entries()
        # The newest change of an object stays even where nothing of ours stands any more: without it an older one would seem to.
        needed = {entry["seq"] for entry, _change in _newest(entries).values()} | {entry["seq"] for entry in entries[-KEEP_ENTRIES:]}
        kept = []
        for entry in entries:
            if entry["seq"] in needed or entry["state"] in PENDING:
                kept.append(entry)
            else:
                os.unlink(self._path(entry, entry["state"]))
        named = {change[state].get("sha256") for entry in kept for change in entry["changes"] for state in ("before", "after", "original")}
        for name in os.listdir(self.contents_folder):
            if name not in named:
                os.unlink(os.path.join(self.contents_folder, name))


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False


def _newest(entries: list[Entry]) -> dict[Key, tuple[Entry, Change]]:
    found: dict[Key, tuple[Entry, Change]] = {}
    for entry in entries:
        if entry["state"] == "done":
            for change in entry["changes"]:
                found.pop(key_of(change), None)
                found[key_of(change)] = entry, change
    return found


def same_content(one: State, other: State) -> bool:
    """Whether two states hold the same content (``sha256`` of a file, ``value`` of anything small), or both are absent."""
    return one["absent"] == other["absent"] and (one["absent"] or all(one.get(key) == other.get(key) for key in ("sha256", "value")))


def same_state(one: State, other: State) -> bool:
    """Whether two states hold the same content with the same mode and owner, or both are absent."""
    return same_content(one, other) and all(one.get(key) == other.get(key) for key in ("mode", "uid", "gid"))
