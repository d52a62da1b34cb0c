# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps what, and how names are made that are this checkout's own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from .shell import LabError, say

CHECKOUT = Path(__file__).resolve().parents[3]
LAB = CHECKOUT / "tests" / "lab"
STATE = CHECKOUT / ".cache" / "lab"  # this checkout's hosts: key, inventory
KEEP_SECONDS = 14 * 24 * 3600
LOCKS = Path("/run/lock") if os.access("/run/lock", os.W_OK) else Path("/tmp")


def cache():
    """The cache folder of this user: safe to delete at any time, rebuilt from nothing."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kataops-aio"
    folder = Path(os.environ.get("KATAOPS_CACHE") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*parts):
    """Twelve hex digits that name the parts (text, or paths whose content counts)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(p for p in ([part] if part.is_file() else part.rglob("*")) if p.is_file()):
                total.update(str(path.relative_to(part.parent)).encode() + b"\0" + path.read_bytes() + b"\0")
        else:
            total.update(str(part).encode() + b"\0")
    return total.hexdigest()[:12]


@contextmanager
def locked(path):
    """An exclusive lock for the time of the block; it goes with the process, so a killed run leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - the block below closes it
    except PermissionError as error:
        raise LabError(f"the lock {path} belongs to another user: disposable hosts need root; run this as root") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(path, make):
    """Returns `path`, made by `make(part)` when it is missing: written beside it and renamed, so that what exists is whole."""
    if path.exists():
        return path
    with locked(path.parent / ".lock"):
        if not path.exists():
            part = path.parent / f"{path.name}.part"
            remove(part)
            try:
                make(part)
                part.rename(path)
            finally:
                remove(part)
    return path


def remove(path):
    """Removes a file or a tree; missing is fine, also when another run removes it at the same time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def in_use(path, others):
    """Marks the entry as used now, and removes those of the pattern that nobody used for two weeks (another checkout may still use them)."""
    now = time.time()
    os.utime(path, (now, now))
    for other in path.parent.glob(others):
        with suppress(FileNotFoundError):
            if now - other.stat().st_mtime > KEEP_SECONDS:
                remove(other)
