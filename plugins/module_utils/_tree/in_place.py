# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a tree's QEMU where Kata's own stands, and takes that back. PRIVATE to kataops.aio.

The new binary is a new inode that is renamed over the name; the old inode keeps living under a second name beside it, so that taking it back is one
rename and brings back everything of it. Running sandboxes keep the inode that they run. Kata's own installer may overwrite the name at any time: then
there is nothing to take back any more, and what it wrote is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.durable import sync_folder, write_durably
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree.store import read_manifest

_FOLDER = "in-place"


def _record_path(state_dir, target):
    return os.path.join(state_dir, _FOLDER, hashlib.sha256(target.encode()).hexdigest()[:16] + ".json")


def records(state_dir):
    """``[{target, saved, before, after, id}]``: what was put in place and not taken back; before and after are SHA-256."""
    folder = os.path.join(state_dir, _FOLDER)
    if os.path.isdir(folder):
        # What stands in it is carried out as root.
        require_folder(folder, "carrying out what a record says")
    found = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".json"):
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as handle:
                    found.append(json.load(handle))
            except ValueError as error:
                raise AioError("the record of a replaced QEMU is damaged: %s" % error, where=os.path.join(folder, name)) from None
    return found


def _real_target(target):
    real = os.path.realpath(target)
    try:
        status = os.lstat(real)
    except FileNotFoundError:
        raise AioError("there is no QEMU to replace", where=target, expected="the QEMU of a Kata installation") from None
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        raise AioError("what would be replaced is no executable file", where=real, expected="the QEMU of a Kata installation")
    return real, status


def place(tree, target, state_dir, check_mode=False):
    """Makes ``target`` be the binary of ``tree``.

    :returns: ``{changed, target, saved, before, after}``; target is the real path that was replaced.
    :raises AioError: the tree's binary does not work elsewhere (a wrapper), the target is no executable file. Nothing has changed then.
    """
    manifest = read_manifest(tree)[0]
    source = os.path.join(tree, manifest["binary"])
    with open(source, "rb") as handle:
        if handle.read(2) == b"#!":
            raise AioError("this tree's QEMU is started by a wrapper and cannot be put elsewhere", where=source, remedy="leave qemu_in_place empty")
    real, status = _real_target(target)
    require_folder(os.path.dirname(real), "replacing Kata's QEMU")
    after, before = _manifest.file_sha256(source), _manifest.file_sha256(real)
    known = {record["target"]: record for record in records(state_dir)}.get(real)
    if before == after:
        saved = known["saved"] if known else None
        return {"changed": False, "target": real, "saved": saved, "before": known["before"] if known else before, "after": after}
    saved = os.path.join(os.path.dirname(real), ".kataops-aio-%s.old" % os.path.basename(real))
    result = {"changed": True, "target": real, "saved": saved, "before": before, "after": after}
    if check_mode:
        return result
    if known and known["after"] == before and os.path.exists(known["saved"]):
        # One of our own binaries stands there: what stood before the first of them is still what is taken back.
        result.update(saved=known["saved"], before=known["before"])
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(saved)
        os.link(real, saved)
    folder = os.path.dirname(_record_path(state_dir, real))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    record = {key: result[key] for key in ("target", "saved", "before", "after")}
    write_durably(_record_path(state_dir, real), _manifest.dump(dict(record, id=manifest["id"])), 0o600)
    temporary = os.path.join(os.path.dirname(real), ".kataops-aio-%s.new" % os.path.basename(real))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(source, "rb") as reading, os.fdopen(descriptor, "wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            os.fchmod(writing.fileno(), stat.S_IMODE(status.st_mode))
            os.fchown(writing.fileno(), status.st_uid, status.st_gid)
            writing.flush()
            os.fsync(writing.fileno())
        os.rename(temporary, real)
    except OSError as error:
        raise AioError("the QEMU cannot be put in place: %s" % error.strerror, where=real, remedy="repair that, then run again") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_folder(os.path.dirname(real))
    return result


def take_back(state_dir, target=None, check_mode=False):
    """Brings back every binary that was replaced (or that of ``target`` only).

    :returns: ``{changed, restored: [paths], left: {path: reason}}``; left are those that somebody else has replaced since.
    """
    restored, left = [], {}
    wanted = os.path.realpath(target) if target else None
    found = [record for record in records(state_dir) if wanted in (None, record["target"])]
    for record in found:
        path, saved = record["target"], record["saved"]
        if not os.path.exists(path):
            left[path] = "it is gone, and so is nothing to take back"
        elif _manifest.file_sha256(path) == record["before"]:
            left[path] = "it already is what stood there before"
        elif _manifest.file_sha256(path) != record["after"]:
            left[path] = "somebody else has replaced it since; what they wrote stays"
        elif not os.path.exists(saved) or _manifest.file_sha256(saved) != record["before"]:
            raise AioError("what stood there before is gone or was changed", where=saved, expected="sha256 %s" % record["before"])
        else:
            restored.append(path)
        if check_mode:
            continue
        if path in restored:
            os.rename(saved, path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(saved)
        if os.path.isdir(os.path.dirname(path)):
            sync_folder(os.path.dirname(path))
        os.unlink(_record_path(state_dir, path))
    return {"changed": bool(found), "restored": restored, "left": left}
