# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's folder of QEMU artifacts. PRIVATE to kataops.aio.

``<id>.tar.xz`` and ``<id>.json`` (``{sha256, size, manifest_sha256}``) and ``<id>.manifest.json`` belong together; the ``.json`` is written
last, so an artifact without it is none. ``logs/<id>.log`` are the build logs, ``locks/`` keeps two runs from building the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest


class Artifacts:
    """A folder of artifacts on the controller."""

    def __init__(self, folder):
        self.folder = os.path.abspath(os.path.expanduser(folder))

    def path(self, name):
        """A file of the folder."""
        return os.path.join(self.folder, name)

    def log_path(self, tree_id):
        """Where a build's log is kept; its folder is made."""
        os.makedirs(self.path("logs"), exist_ok=True)
        return self.path("logs/%s.log" % tree_id)

    def find(self, tree_id):
        """``{path, sha256, size, manifest_path, manifest_sha256}`` of an artifact that is there and unharmed, else None."""
        _manifest.valid_id(tree_id)
        archive, manifest = self.path("%s.tar.xz" % tree_id), self.path("%s.manifest.json" % tree_id)
        try:
            with open(self.path("%s.json" % tree_id), encoding="utf-8") as handle:
                record = json.load(handle)
            if _manifest.file_sha256(archive) != record["sha256"] or _manifest.file_sha256(manifest) != record["manifest_sha256"]:
                return None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return {
            "path": archive,
            "sha256": record["sha256"],
            "size": os.path.getsize(archive),
            "manifest_path": manifest,
            "manifest_sha256": record["manifest_sha256"],
        }

    def add(self, tree_id, packed, fetch):
        """Brings a packed artifact here and returns what :meth:`find` does.

        :arg packed: ``{path, sha256, size, manifest}`` as the builder told.
        :arg fetch: a function ``(there, here)`` that copies a file.
        :raises AioError: what arrived is not what the builder packed.
        """
        os.makedirs(self.folder, exist_ok=True)
        partial = self.path(".%s.partial" % tree_id)
        try:
            fetch(packed["path"], partial)
            found = _manifest.file_sha256(partial)
            if found != packed["sha256"]:
                raise AioError(
                    "the artifact arrived damaged: sha256 %s" % found,
                    where=packed["path"],
                    expected=packed["sha256"],
                    remedy="run the build again; nothing is built twice",
                )
            data = _manifest.dump(packed["manifest"])
            self._write("%s.manifest.json" % tree_id, data)
            os.rename(partial, self.path("%s.tar.xz" % tree_id))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        record = {"sha256": packed["sha256"], "size": packed["size"], "manifest_sha256": hashlib.sha256(data).hexdigest()}
        self._write("%s.json" % tree_id, _manifest.dump(record))
        return self.find(tree_id)

    def _write(self, name, data):
        temporary = self.path(".%s.new" % name)
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, self.path(name))

    @contextlib.contextmanager
    def lock(self, tree_id, tell):
        """Held by one process of this controller at a time; ``tell`` gets one line where another one has it."""
        os.makedirs(self.path("locks"), exist_ok=True)
        with open(self.path("locks/%s.lock" % tree_id), "w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("    %s  is being made by another run on this controller, waiting for it" % tree_id)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
