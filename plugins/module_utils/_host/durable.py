# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing that outlives a power failure. PRIVATE to kataops.aio."""

from __future__ import annotations

import contextlib
import os

#: What the temporary file of :func:`write_durably` is called besides its target's name; a killed run may leave one.
TEMPORARY = ".tmp"


def sync_folder(folder: str) -> None:
    """Make what was renamed, linked or removed in ``folder`` outlive a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data`` to ``fd``, however much the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_durably(path: str, data: bytes, mode: int) -> None:
    """Create or replace ``path`` with ``data`` in one rename, synced; the temporary file is removed if that fails."""
    temporary = path + TEMPORARY
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as exc:
        exc.filename = exc.filename or path  # write(2) and fsync(2) name no file
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(path))
