# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare-and-swap transactions over whole files, with the ledger written first. PRIVATE to kataops.aio.

A change is ``{path, expected_sha256, content_b64, mode, uid, gid, info}``:

* ``path``: absolute, with no symlink as its last part; its folder exists, or is a C(config.d) that is then made (mode 0755).
* ``expected_sha256``: what stands there now (hex), or None where nothing may stand there. Anything else on the disk is an error, and nothing is done.
* ``content_b64``: the new bytes, or None to remove the file.
* ``mode`` (octal text), ``uid``, ``gid``: None keeps those of the file; a new file gets 0644 and the user that runs this.
* ``info``: plain data that goes into the ledger; ``whole_file``, ``clears``, ``remove_folders``, ``undoes``: as in the ledger's entries.

The order of things, each step synced before the next: the contents into the ledger's folder, the entry (``prepared``), the new files under a
temporary name, ``committed``, one rename for each file (its content compared once more right before), ``done``. No temporary name is ever in a
C(config.d), where every loader of Kata would read it: for a drop-in it is in the folder above, beside the base file, where loaders read the named
file only. For one file that rename is the only moment at which anything changes for Kata. Of several files all or none change: where one cannot be
renamed, the earlier ones are renamed back (a hard link has kept them), and :func:`recover` does the same or the rest after a crash.
Between the last comparison and its rename nobody is kept from writing the file (rename(2) knows no condition); that is a matter of microseconds.

Extended attributes (SELinux context, POSIX ACL, capabilities, user's own) go over to the new file.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import errno
import hashlib
import os
import stat

from ansible_collections.kataops.aio.plugins.module_utils._change.ledger import (
    SCHEMA_VERSION,
    Ledger,
    same_state,
    sync_folder,
    write_all,
)
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder

CONFIG_D = "config.d"
PREFIX = ".kataops-aio-"
MAX_BYTES = 4 * 1024 * 1024
ABSENT = {"absent": True}
SELINUX = "security.selinux"
ACL = "system.posix_acl_access"
#: The kernel computes these from the content (IMA, EVM).
COMPUTED_XATTRS = ("security.ima", "security.evm")
REMEDIES = {
    errno.ENOSPC: "free some space there, then run again",
    errno.EDQUOT: "free some space there, then run again",
    errno.EROFS: "remount the file system writable, then run again",
    errno.EACCES: "run with become: true",
    errno.EPERM: "run with become: true; look at the file's attributes (lsattr) too",
}


def os_failure(exc, doing):
    """An ``OSError`` as the error that the user gets."""
    return AioError(
        "%s failed: %s" % (doing, exc.strerror or exc),
        exc.filename2 or exc.filename,
        remedy=REMEDIES.get(exc.errno, "put that right on the host, then run again"),
        errno=errno.errorcode.get(exc.errno),
    )


def look(path):
    """``(state, content)`` of a path as it is now: content is bytes, or None where it is absent.

    :raises AioError: where there is anything else than a regular file of at most MAX_BYTES.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return dict(ABSENT), None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise AioError(
                "this is a symlink", path, "a regular file (runtime-rs refuses a symlink there)", "name the file that it leads to, or remove it"
            ) from exc
        raise
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise AioError("this is no regular file", path, "a regular file", "move it away")
        if info.st_size > MAX_BYTES:
            raise AioError("this has %d bytes" % info.st_size, path, "a configuration file of at most %d" % MAX_BYTES)
        chunks = []
        while True:
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                break
            chunks.append(chunk)
        xattrs = {name: base64.b64encode(os.getxattr(fd, name)).decode() for name in list_xattrs(fd) if name not in COMPUTED_XATTRS}
    finally:
        os.close(fd)
    content = b"".join(chunks)
    return {
        "absent": False,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "mtime_ns": info.st_mtime_ns,
        "xattrs": xattrs,
    }, content


def list_xattrs(target):
    """The names of a file's extended attributes; none where its file system has no such thing."""
    try:
        return sorted(os.listxattr(target))
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return []
        raise


def staging_folder(path):
    """The folder for the temporary name of ``path``: on its file system, and read by no loader of Kata.

    :raises AioError: where there is none.
    """
    folder = os.path.dirname(path)
    in_config_d = os.path.basename(folder) == CONFIG_D
    real = os.path.realpath(folder)
    if not in_config_d and os.path.basename(real) != CONFIG_D:
        return real
    above = os.path.dirname(real)
    if os.path.basename(above) == CONFIG_D or (os.path.isdir(real) and os.stat(above).st_dev != os.stat(real).st_dev):
        raise AioError(
            "a file cannot be renamed into this folder from outside of it: it is a mount of its own",
            real,
            remedy="choose the base file (method: base_file)",
        )
    return above


def transact(state_dir, changes, about):
    """Apply all changes, or none.

    :arg about: ``{tool, kind, collection_version}`` for the ledger.
    :returns: ``{"changed": bool, "seq": int | None, "recovered": [...], "cautions": [...]}``; seq is None where every file already stands as it
    should.
    :raises AioError: nothing has changed then.
    """
    try:
        ledger = Ledger(state_dir)
        with ledger.lock():
            recovered = settle_pending(ledger)
            return dict(run_locked(ledger, changes, about), recovered=recovered)
    except OSError as exc:
        raise os_failure(exc, "changing Kata's configuration") from exc


def recover(state_dir):
    """Complete or take back what a crash left in between; does nothing where there is nothing of that.

    :returns: ``[{"seq": int, "outcome": "completed" | "taken_back", "paths": [...]}]``.
    """
    try:
        ledger = Ledger(state_dir)
        if not ledger.pending():
            return []
        with ledger.lock():
            return settle_pending(ledger)
    except OSError as exc:
        raise os_failure(exc, "settling an interrupted change") from exc


def run_locked(ledger, changes, about):
    """The same as :func:`transact` for a ledger that is held and settled."""
    steps = [step for step in map(_step, changes) if step is not None]
    if not steps:
        return {"changed": False, "seq": None, "cautions": []}
    if len({step["path"] for step in steps}) != len(steps):
        raise AioError("a path occurs twice in one transaction", ", ".join(step["path"] for step in steps))
    seq = ledger.next_seq()
    for number, step in enumerate(steps):
        temporary = os.path.join(staging_folder(step["path"]), "%s%d-%d" % (PREFIX, seq, number))
        step["staged"] = None if step["after"]["absent"] else temporary + ".new"
        step["saved"] = temporary + ".old" if len(steps) > 1 and not step["before"]["absent"] else None
    entry = {
        "schema_version": SCHEMA_VERSION,
        "seq": seq,
        "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "collection_version": about["collection_version"],
        "tool": about["tool"],
        "kind": about["kind"],
        "changes": [{key: value for key, value in step.items() if not key.startswith("_")} for step in steps],
    }
    for step in steps:
        for content in (step["_old"], step["_new"]):
            if content is not None:
                ledger.keep(content)
    ledger.record(entry)
    try:
        for step in steps:
            _stage(step)
        for folder in sorted({os.path.dirname(name) for step in steps for name in (step["staged"], step["saved"]) if name}):
            sync_folder(folder)
        ledger.set_state(entry, "committed")
        for change in entry["changes"]:
            _swap(change)
    except BaseException:
        _take_back(ledger, entry)
        raise
    return {"changed": True, "seq": seq, "cautions": _finish(ledger, entry)}


def _step(change):
    """A change with its states and contents, checked against the disk; None where the file already stands so."""
    path = change["path"]
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise AioError("a path has to be absolute and without any ..", path)
    for folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        if os.path.isdir(folder):
            require_folder(folder, "writing Kata's configuration")
            break
    before, old = look(path)
    expected = change["expected_sha256"]
    if before.get("sha256") != expected:
        raise _changed_meanwhile(path, before, expected)
    folder = os.path.dirname(path)
    new = None
    created = []
    if change["content_b64"] is None:
        after = dict(ABSENT)
    else:
        try:
            new = base64.b64decode(change["content_b64"], validate=True)
        except (binascii.Error, ValueError) as exc:
            raise AioError("the content of a change is no base64: %s" % exc, path) from exc
        if not os.path.isdir(folder):
            if os.path.lexists(folder) or os.path.basename(folder) != CONFIG_D or not os.path.isdir(os.path.dirname(folder)):
                raise AioError("this is no folder, so no file can be written there", folder, "an existing folder, or none for a %s" % CONFIG_D)
            created = [folder]
        after = {
            "absent": False,
            "sha256": hashlib.sha256(new).hexdigest(),
            "size": len(new),
            "mode": "%04o" % int(change.get("mode") or before.get("mode", "0644"), 8),
            "uid": _first(change.get("uid"), before.get("uid"), os.geteuid()),
            "gid": _first(change.get("gid"), before.get("gid"), os.getegid()),
            "mtime_ns": change.get("mtime_ns"),
            "xattrs": _first(change.get("xattrs"), before.get("xattrs"), {}),
        }
    if same_state(before, after):
        return None
    return {
        "path": path,
        "before": before,
        "after": after,
        "created_folders": created,
        "remove_folders": change.get("remove_folders", []),
        "whole_file": change.get("whole_file", False),
        "clears": change.get("clears", False),
        "undoes": change.get("undoes", []),
        "info": change.get("info", {}),
        "_old": old,
        "_new": new,
    }


def _first(*values):
    return next((value for value in values if value is not None), None)


def _changed_meanwhile(path, found, expected):
    def words(digest):
        return "sha256 %s…" % digest[:12] if digest else "no file"

    return AioError(
        "this was changed by somebody else meanwhile; nothing was written",
        path,
        "%s (what was read), but there is now %s" % (words(expected), words(found.get("sha256"))),
        "run again; it starts from what stands there now",
    )


def _stage(step):
    """Make the folder, the new file under its temporary name, and the second name of the old one."""
    for folder in step["created_folders"]:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # nosec B103  # Kata reads it as any user
    if step["saved"]:
        os.link(step["path"], step["saved"], follow_symlinks=False)
    if step["staged"] is None:
        return
    after = step["after"]
    fd = os.open(step["staged"], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, step["_new"])
        os.fchown(fd, after["uid"], after["gid"])
        _give_xattrs(fd, step)
        os.fchmod(fd, int(after["mode"], 8))
        if after["mtime_ns"] is not None:
            os.utime(fd, ns=(after["mtime_ns"], after["mtime_ns"]))
        os.fsync(fd)
    except OSError as exc:
        exc.filename = exc.filename or step["path"]  # write(2) and fsync(2) name no file
        raise
    finally:
        os.close(fd)


def _give_xattrs(fd, step):
    """The attributes of the old file; a new one gets the SELinux context that its folder would have given it."""
    xattrs = {name: base64.b64decode(value) for name, value in step["after"]["xattrs"].items()}
    folder = os.path.dirname(step["path"])
    if SELINUX not in xattrs and SELINUX in list_xattrs(folder):
        xattrs[SELINUX] = os.getxattr(folder, SELINUX)
    if ACL not in xattrs and ACL in list_xattrs(fd):
        os.removexattr(fd, ACL)  # inherited from the folder of the temporary name
    for name, value in xattrs.items():
        if name not in list_xattrs(fd) or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)


def _swap(change):
    """The one moment: what stands there is compared once more, then the new file takes its name."""
    found, _content = look(change["path"])
    if not same_state(found, change["before"]):
        raise _changed_meanwhile(change["path"], found, change["before"].get("sha256"))
    if change["staged"]:
        os.rename(change["staged"], change["path"])
    else:
        os.unlink(change["path"])


def _unlink(path):
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _take_back(ledger, entry):
    """Undo what an entry did so far. Where even that fails, the entry stays ``committed`` and :func:`recover` goes on with it."""
    with contextlib.suppress(OSError, AioError):
        for change in reversed(entry["changes"]):
            if entry["state"] == "committed" and same_state(look(change["path"])[0], change["after"]):
                if len(entry["changes"]) == 1:
                    return  # interrupted right after its only rename: the change is made
                if change["saved"]:
                    os.rename(change["saved"], change["path"])
                else:
                    os.unlink(change["path"])
                sync_folder(os.path.dirname(change["path"]))
            _unlink(change["staged"])
            _unlink(change["saved"])
            _remove_empty(change["created_folders"])
        ledger.set_state(entry, "taken_back")


def _remove_empty(folders):
    for folder in folders:
        try:
            os.rmdir(folder)
            sync_folder(os.path.dirname(folder))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise


def _finish(ledger, entry):
    """What follows the renames. All is in place by now: a failure here is a caution, and the next run settles the rest."""
    errors = []
    for change in entry["changes"]:
        for work in (_sync_folder_of, _clean_up):
            try:
                work(change)
            except OSError as exc:
                errors.append(str(exc))
    if not errors:
        try:
            ledger.set_state(entry, "done")
            ledger.prune()
        except (OSError, AioError) as exc:
            errors.append(str(exc))
    if errors:
        return ["the change is in place, but the ledger's entry %d could not be closed: %s; the next run closes it" % (entry["seq"], "; ".join(errors))]
    return []


def _sync_folder_of(change):
    with contextlib.suppress(FileNotFoundError):  # our own folder, which went with its last file
        sync_folder(os.path.dirname(change["path"]))


def _clean_up(change):
    _unlink(change["saved"])
    _remove_empty(change["remove_folders"])


def settle_pending(ledger):
    """Settle every entry that a crash left in between, of a ledger that is held."""
    return [_settle(ledger, entry) for entry in ledger.pending()]


def _settle(ledger, entry):
    """Settle one entry: taken back where no file was renamed yet, else completed where every file still is as the entry knows it, else taken back."""
    changes = entry["changes"]
    found = [look(change["path"])[0] for change in changes]
    renamed = [same_state(state, change["after"]) for state, change in zip(found, changes)]
    waiting = [same_state(state, change["before"]) for state, change in zip(found, changes)]
    ready = [change["staged"] is None or os.path.lexists(change["staged"]) for change in changes]
    outcome = "taken_back"
    # One file that is neither: it was renamed, then changed by somebody else. Its original stays reachable.
    overwritten = len(changes) == 1 and not renamed[0] and not waiting[0] and not ready[0]
    if entry["state"] == "committed" and (
        overwritten or (any(renamed) and all(done or (wait and there) for done, wait, there in zip(renamed, waiting, ready)))
    ):
        for change, done in zip(changes, renamed):
            if not done and not overwritten:
                _swap(change)
        _finish_or_raise(ledger, entry)
        outcome = "completed"
    else:
        _take_back(ledger, entry)
        if entry["state"] != "taken_back":
            raise AioError(
                "an interrupted change could be neither completed nor taken back",
                changes[0]["path"],
                remedy="see whether the file system is full or read-only",
            )
    return {"seq": entry["seq"], "outcome": outcome, "paths": [change["path"] for change in changes]}


def _finish_or_raise(ledger, entry):
    warnings = _finish(ledger, entry)
    if warnings:
        raise AioError(warnings[0], ledger.folder)
