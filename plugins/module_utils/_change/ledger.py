# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection changed on a host, and what stood there before. PRIVATE to kataops.aio.

The ledger's folder (``/var/lib/kataops-aio`` unless told; mode 0700) holds

``lock``
    taken (``flock``) by everything that changes a file or the ledger.
``originals/<sha256>``
    the bytes of every file before and after a change, by their digest.
``ledger/<seq, 8 digits>.<state>.json``
    one transaction each; written and synced before the first file is touched. The state stands in the name, so that going on to the next one is a
    rename, which needs no space on the disk:

    ``prepared``    recorded; no file has been renamed into place yet
    ``committed``   all is staged and synced; the renames may be under way
    ``done``        every file stands as ``after`` says
    ``taken_back``  nothing was changed, or all that was has been taken back

An entry (schema version 1)::

    {"schema_version": 1, "seq": 7, "time": "2026-11-22T17:30:00Z", "collection_version": "0.1.0", "tool": "kata_config",
     "kind": "change" | "rollback",
     "changes": [{
        "path": "/opt/kata/share/defaults/kata-containers/config.d/60-kataops-aio.toml",
        "staged": "/opt/kata/share/defaults/kata-containers/.kataops-aio-7-0.new" | null,     the new content until the rename; null for a removal
        "saved": "/opt/kata/share/defaults/kata-containers/.kataops-aio-7-0.old" | null,      the old file while a transaction of several runs
        "before": STATE, "after": STATE,
        "created_folders": ["/opt/kata/share/defaults/kata-containers/config.d"],
        "remove_folders": [],                       our own folders that go with the file, when empty
        "whole_file": true,                         whether the file is ours as a whole (a drop-in), or only edited by us
        "clears": false,                            whether it takes out all that is ours in a file that was only edited
        "undoes": [],                               for a rollback: the entries whose change of this path it takes back
        "info": {...}                               plain data of the tool: which runtimes, which keys
     }]}

STATE is ``{"absent": true}`` or ``{"absent": false, "sha256": hex, "size": bytes, "mode": "0644", "uid": 0, "gid": 0, "mtime_ns": ns, "xattrs":
{name: base64}}``.
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

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder

DEFAULT_FOLDER = "/var/lib/kataops-aio"
SCHEMA_VERSION = 1
PENDING = ("prepared", "committed")
STATES = PENDING + ("done", "taken_back")
LOCK_SECONDS = 60
KEEP_ENTRIES = 50
ENTRY_NAME = r"^(\d{8})\.(%s)\.json$" % "|".join(STATES)
TEMPORARY = ".tmp"


def sync_folder(folder):
    """Make what was renamed, linked or removed in ``folder`` outlive a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd, data):
    """Write all of ``data`` (bytes) to ``fd``, however much the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_durably(path, data, mode):
    """Create or replace ``path`` with ``data`` (bytes) in one rename, synced; the temporary file is removed where that fails."""
    temporary = path + TEMPORARY
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        exc.filename = exc.filename or path  # write(2) and fsync(2) name no file
        raise
    sync_folder(os.path.dirname(path))


class Ledger:
    """The ledger in one folder. Reading needs no lock and creates nothing; all that writes wants :meth:`lock` held."""

    def __init__(self, folder=DEFAULT_FOLDER):
        if not os.path.isabs(folder):
            raise AioError("the ledger's folder has to be an absolute path", "state_dir: %s" % folder)
        self.folder = os.path.normpath(folder)
        self.entries_folder = os.path.join(self.folder, "ledger")
        self.originals_folder = os.path.join(self.folder, "originals")

    @contextlib.contextmanager
    def lock(self):
        """Hold the ledger for this process alone; the folders are made where they are missing.

        :raises AioError: where another process holds it for longer than LOCK_SECONDS.
        """
        require_folder(self.folder, "keeping the record of changes")
        for folder in (self.folder, self.entries_folder, self.originals_folder):
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                sync_folder(os.path.dirname(folder))
        fd = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                if time.monotonic() > deadline:
                    raise AioError(
                        "another run has held the ledger for %d s" % LOCK_SECONDS,
                        os.path.join(self.folder, "lock"),
                        remedy="let that run end (fuser names it), then run again",
                    )
                time.sleep(0.2)
            for folder in (self.entries_folder, self.originals_folder):
                for name in os.listdir(folder):
                    if name.endswith(TEMPORARY):
                        os.unlink(os.path.join(folder, name))
            yield self
        finally:
            os.close(fd)

    def entries(self):
        """All entries in order, each with its ``state``; empty where there is no ledger yet.

        :raises AioError: where an entry cannot be read or is of a schema that this version does not know.
        """
        try:
            names = sorted(os.listdir(self.entries_folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        # What stands in it is carried out as root.
        require_folder(self.entries_folder, "carrying out what a record says")
        by_seq = {}
        for name in names:
            match = re.match(ENTRY_NAME, name)
            if not match:
                continue
            path = os.path.join(self.entries_folder, name)
            try:
                with open(path, encoding="utf-8") as stream:
                    entry = json.load(stream)
            except ValueError as exc:
                raise AioError(
                    "this ledger entry is damaged: %s" % exc,
                    path,
                    remedy="restore it from a backup, or move it away if its change is no longer wanted",
                ) from exc
            if entry.get("schema_version") != SCHEMA_VERSION:
                raise AioError(
                    "this ledger entry has schema version %r" % entry.get("schema_version"),
                    path,
                    "%d" % SCHEMA_VERSION,
                    "use the version of the collection that wrote it (%s)" % entry.get("collection_version"),
                )
            by_seq[entry["seq"]] = dict(entry, state=match.group(2))
        return [by_seq[seq] for seq in sorted(by_seq)]

    def pending(self):
        """The entries that a crash left in between."""
        return [entry for entry in self.entries() if entry["state"] in PENDING]

    def next_seq(self):
        """The number of the next entry."""
        entries = self.entries()
        return entries[-1]["seq"] + 1 if entries else 1

    def _path(self, entry, state):
        return os.path.join(self.entries_folder, "%08d.%s.json" % (entry["seq"], state))

    def record(self, entry):
        """Write a new entry durably, as ``prepared``."""
        data = {key: value for key, value in entry.items() if key != "state"}
        write_durably(self._path(entry, "prepared"), json.dumps(data, indent=1, sort_keys=True).encode(), 0o600)
        entry["state"] = "prepared"

    def set_state(self, entry, state):
        """Take an entry on to ``state``, durably."""
        os.rename(self._path(entry, entry["state"]), self._path(entry, state))
        entry["state"] = state
        sync_folder(self.entries_folder)

    def keep(self, content):
        """Keep ``content`` (bytes) durably; its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        path = os.path.join(self.originals_folder, digest)
        if not os.path.exists(path):
            write_durably(path, content, 0o600)
        return digest

    def content(self, digest):
        """The kept bytes with this digest, checked.

        :raises AioError: where they are gone or damaged.
        """
        path = os.path.join(self.originals_folder, digest)
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except FileNotFoundError as exc:
            raise AioError("the ledger names this content, but it is gone", path, remedy="restore the folder from a backup") from exc
        if hashlib.sha256(content).hexdigest() != digest:
            raise AioError("this kept content is damaged", path, "sha256 %s" % digest, "restore the file from a backup")
        return content

    def applied(self):
        """What of our changes still stands, by path: the unbroken chains of changes, oldest first.

        A chain ends backwards where a rollback took the change back, or where somebody else wrote the file in between: what that one wrote is then
        what stood before us. It also ends where we took all that was ours out of a file. A file that is ours as a whole stays ours when somebody
        edits it; only its removal by somebody ends the chain.

        :returns: ``{path: [(entry, change), ...]}``.
        """
        chains, closed, undone = {}, set(), {}
        for entry in reversed(self.entries()):
            if entry["state"] != "done":
                continue
            for change in entry["changes"]:
                path = change["path"]
                undone.setdefault(path, set()).update(change["undoes"])
                if change["undoes"] or entry["seq"] in undone[path] or path in closed:
                    continue
                if change["clears"]:
                    closed.add(path)
                    continue
                chain = chains.setdefault(path, [])
                edited = chain and not chain[0][1]["before"]["absent"] and change["whole_file"]
                if chain and not edited and not same_content(change["after"], chain[0][1]["before"]):
                    closed.add(path)
                    continue
                chain.insert(0, (entry, change))
        return chains

    def prune(self):
        """Remove entries that nothing needs any more (all but the newest KEEP_ENTRIES), and the contents that no entry names."""
        entries = self.entries()
        needed = {entry["seq"] for chain in self.applied().values() for entry, _change in chain}
        for entry in entries[:-KEEP_ENTRIES]:
            if entry["seq"] not in needed and entry["state"] not in PENDING:
                os.unlink(self._path(entry, entry["state"]))
        named = {state.get("sha256") for entry in self.entries() for change in entry["changes"] for state in (change["before"], change["after"])}
        for name in os.listdir(self.originals_folder):
            if name not in named:
                os.unlink(os.path.join(self.originals_folder, name))


def same_content(one, other):
    """Whether two states hold the same bytes, or both are absent."""
    return one["absent"] == other["absent"] and (one["absent"] or one["sha256"] == other["sha256"])


def same_state(one, other):
    """Whether two states hold the same bytes with the same mode and owner, or both are absent."""
    return same_content(one, other) and all(one.get(key) == other.get(key) for key in ("mode", "uid", "gid"))
