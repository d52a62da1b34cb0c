# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the kind ``file``: whole regular files, exchanged by rename. PRIVATE to kataops.aio.

A request is ``{kind: file, name, expected_sha256, content_b64, original_b64, mode, uid, gid, xattrs, mtime_ns, whole_file, remove_folders, info}``:

* ``name``: the absolute path, whose last part is not a symlink; its folder exists, or is a ``config.d``, which is then made (mode 0755).
* ``expected_sha256``: what is there now (hex), or None if nothing may be there. Anything else on the disk is an error, and nothing is done.
* ``content_b64``: the new bytes, or None to remove the file.
* ``original_b64``: the present content without anything of ours, where another program edited the file after us; else the journal knows it.
  ``original``: its whole STATE, of a rollback.
* ``mode`` (octal text), ``uid``, ``gid``, ``xattrs`` ({name: base64}): None keeps those of the file; a new file gets 0644 and the user that runs this.
* ``mtime_ns``: None leaves the time of the write.
* ``whole_file``: the file is ours as a whole (a drop-in): it stays ours when others edit it.
* ``remove_folders``: folders of ours that go with the file, if empty.

STATE is ``{"absent": true}`` or ``{"absent": false, "sha256": hex, "size": bytes, "mode": "0644", "uid": 0, "gid": 0, "mtime_ns": ns, "links": 1,
"xattrs": {name: base64}}``.

No temporary name is ever in a ``config.d``, where every loader of Kata would read it: for a drop-in it is in the folder above, beside the base file,
where loaders read the named file only. Between the last comparison and its rename nothing keeps another process from writing the file (rename(2) knows
no condition); that is a matter of microseconds. Extended attributes (SELinux context, POSIX ACL, capabilities, user's own) go over to the new file.
Further hard links of the old file keep its old content: no rename can change that.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import os
import stat
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Change, State, same_content, same_state
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.durable import sync_folder, write_all
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder

CONFIG_D = "config.d"
PREFIX = ".kataops-aio-"
MAX_BYTES = 4 * 1024 * 1024
ABSENT: State = {"absent": True}
SELINUX = "security.selinux"
ACL = "system.posix_acl_access"
#: The kernel computes these from the content (IMA, EVM).
COMPUTED_XATTRS = ("security.ima", "security.evm")

Request = t.Dict[str, t.Any]


def look(path: str) -> tuple[State, bytes | None]:
    """``(state, content)`` of a path as it is now; content is None if there is nothing.

    :raises AioError: if there is anything else than a regular file of at most MAX_BYTES.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
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
            raise AioError("this is not a regular file", path, "a regular file", "move it away")
        if info.st_size > MAX_BYTES:
            raise AioError("this has %d bytes" % info.st_size, path, "a configuration file of at most %d" % MAX_BYTES)
        content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        xattrs = {name: base64.b64encode(os.getxattr(fd, name)).decode() for name in list_xattrs(fd) if name not in COMPUTED_XATTRS}
    finally:
        os.close(fd)
    return {
        "absent": False,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "mtime_ns": info.st_mtime_ns,
        "links": info.st_nlink,
        "xattrs": xattrs,
    }, content


def list_xattrs(target: int | str) -> list[str]:
    """The names of a file's extended attributes; none if its file system does not have them."""
    try:
        return sorted(os.listxattr(target))
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return []
        raise


def staging_folder(path: str) -> str:
    """The folder for the temporary name of ``path``: on its file system, and read by no loader of Kata.

    :raises AioError: if there is none.
    """
    folder = os.path.dirname(path)
    real = os.path.realpath(folder)
    if os.path.basename(folder) != CONFIG_D and os.path.basename(real) != CONFIG_D:
        return real
    above = os.path.dirname(real)
    if os.path.basename(above) == CONFIG_D or (os.path.isdir(real) and os.stat(above).st_dev != os.stat(real).st_dev):
        raise AioError(
            "a file cannot be renamed into this folder from outside of it: it is a mount of its own",
            real,
            remedy="choose the base file (method: base_file)",
        )
    return above


def changed_meanwhile(path: str, found: State, expected: str | None) -> AioError:
    """The error for a file that another process wrote between our reading and our writing."""

    def words(digest: str | None) -> str:
        return "sha256 %s…" % digest[:12] if digest else "no file"

    return AioError(
        "another process changed this in the meantime; nothing was written",
        path,
        "%s (what was read), but there is now %s" % (words(expected), words(found.get("sha256"))),
        "run again; it starts from what is there now",
    )


def prepare(request: Request, standing: Change | None) -> tuple[Change, list[bytes]] | None:
    """The change that a request comes to, compared with the disk, and the contents to keep; None if the file already is as it should be.

    :arg standing: our newest change of this file, if something of ours stands there.
    """
    path = request["name"]
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise AioError("a path must be absolute and without any ..", path)
    for folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        if os.path.isdir(folder):
            require_folder(folder, "writing a file")
            break
    before, old = look(path)
    expected = request["expected_sha256"]
    if before.get("sha256") != expected:
        raise changed_meanwhile(path, before, expected)
    after, new, created = _after(request, before)
    original, plain = _original(request, standing, before)
    if same_state(before, after):
        return None
    folders = sorted(set(created) | set(standing["data"].get("created_folders", []) if standing else []))
    data = {
        "staged": None,
        "saved": None,
        "created_folders": folders,
        "remove_folders": request.get("remove_folders") or [],
        "whole_file": bool(request.get("whole_file")),
    }
    change = {"kind": "file", "name": path, "before": before, "after": after, "original": original, "data": data, "info": request.get("info") or {}}
    change["_new"] = new
    return change, [content for content in (old, new, plain) if content is not None]


def _after(request: Request, before: State) -> tuple[State, bytes | None, list[str]]:
    if request["content_b64"] is None:
        return dict(ABSENT), None, []
    path = request["name"]
    folder = os.path.dirname(path)
    new = _decoded(request, "content_b64")
    created = []
    if not os.path.isdir(folder):
        if os.path.lexists(folder) or os.path.basename(folder) != CONFIG_D or not os.path.isdir(os.path.dirname(folder)):
            raise AioError("this is not a folder, so no file can be written there", folder, "an existing folder, or none for a %s" % CONFIG_D)
        created = [folder]
    return _state(new, request, before), new, created


def _state(content: bytes, request: Request, like: State) -> State:
    return {
        "absent": False,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mode": "%04o" % int(request.get("mode") or like.get("mode", "0644"), 8),
        "uid": _first(request.get("uid"), like.get("uid"), os.geteuid()),
        "gid": _first(request.get("gid"), like.get("gid"), os.getegid()),
        "mtime_ns": request.get("mtime_ns"),
        "links": 1,
        "xattrs": _first(request.get("xattrs"), like.get("xattrs"), {}),
    }


def _original(request: Request, standing: Change | None, before: State) -> tuple[State, bytes | None]:
    """The file without anything of ours, and its content where the journal does not have it yet."""
    if request.get("original") is not None:
        return request["original"], None
    if standing is None:
        return before, None
    if same_content(before, standing["after"]):
        return standing["original"], None
    if request.get("original_b64") is not None:
        plain = _decoded(request, "original_b64")
        if standing["original"].get("sha256") == hashlib.sha256(plain).hexdigest():
            return standing["original"], None
        return dict(_state(plain, {}, before), mtime_ns=before.get("mtime_ns")), plain
    if standing["data"]["whole_file"] and not before["absent"]:
        return standing["original"], None
    return before, None


def _decoded(request: Request, key: str) -> bytes:
    try:
        return base64.b64decode(request[key], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise AioError("%s of a change is not base64: %s" % (key, exc), request["name"]) from exc


def _first(*values: t.Any) -> t.Any:
    return next((value for value in values if value is not None), None)


def assign_names(change: Change, seq: int, number: int, several: bool) -> None:
    """Choose the temporary names: of the new content, and (in a transaction of several changes) of the old file."""
    temporary = os.path.join(staging_folder(change["name"]), "%s%d-%d" % (PREFIX, seq, number))
    change["data"]["staged"] = None if change["after"]["absent"] else temporary + ".new"
    change["data"]["saved"] = temporary + ".old" if several and not change["before"]["absent"] else None


def cautions(change: Change) -> list[str]:
    """What the change cannot keep of the file, in words."""
    links = change["before"].get("links", 1)
    if links < 2:
        return []
    return ["%s: this file has %d hard links; its other names keep the old content" % (change["name"], links)]


def stage(change: Change) -> None:
    """Make the folder, the new file under its temporary name, and the second name of the old one; synced."""
    data = change["data"]
    for folder in data["created_folders"] if data["staged"] else ():
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # nosec B103  # Kata reads it as any user
    if data["saved"]:
        os.link(change["name"], data["saved"], follow_symlinks=False)
    if data["staged"]:
        _write_staged(change)
    for folder in sorted({os.path.dirname(name) for name in (data["staged"], data["saved"]) if name}):
        sync_folder(folder)


def _write_staged(change: Change) -> None:
    after = change["after"]
    fd = os.open(change["data"]["staged"], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, change["_new"])
        os.fchown(fd, after["uid"], after["gid"])
        _give_xattrs(fd, change)
        os.fchmod(fd, int(after["mode"], 8))
        if after["mtime_ns"] is not None:
            os.utime(fd, ns=(after["mtime_ns"], after["mtime_ns"]))
        os.fsync(fd)
    except OSError as exc:
        exc.filename = exc.filename or change["name"]  # write(2) and fsync(2) name no file
        raise
    finally:
        os.close(fd)


def _give_xattrs(fd: int, change: Change) -> None:
    """The attributes of the old file; a new one gets the SELinux context that its folder would have given it."""
    xattrs = {name: base64.b64decode(value) for name, value in change["after"]["xattrs"].items()}
    folder = os.path.dirname(change["name"])
    if SELINUX not in xattrs and SELINUX in list_xattrs(folder):
        xattrs[SELINUX] = os.getxattr(folder, SELINUX)
    if ACL not in xattrs and ACL in list_xattrs(fd):
        os.removexattr(fd, ACL)  # inherited from the folder of the temporary name
    for name, value in xattrs.items():
        if name not in list_xattrs(fd) or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)


def apply(change: Change) -> None:
    """The one moment: what is there is compared once more, then the new file takes its name."""
    found, _content = look(change["name"])
    if not same_state(found, change["before"]):
        raise changed_meanwhile(change["name"], found, change["before"].get("sha256"))
    if change["data"]["staged"]:
        os.rename(change["data"]["staged"], change["name"])
    else:
        os.unlink(change["name"])


def position(change: Change) -> str:
    """Where the file stands: ``before``, ``after``, or ``other`` (another program wrote it)."""
    try:
        found, _content = look(change["name"])
    except AioError:
        return "other"
    return "after" if same_state(found, change["after"]) else "before" if same_state(found, change["before"]) else "other"


def made(change: Change) -> bool:
    """Whether the change went live, whatever others have done to the file since: the staged file is gone only then."""
    if change["data"]["staged"]:
        return not os.path.lexists(change["data"]["staged"])
    return position(change) != "before"


def ready(change: Change) -> bool:
    """Whether the change can still go live."""
    return position(change) == "before" and (change["data"]["staged"] is None or os.path.lexists(change["data"]["staged"]))


def revert(change: Change) -> None:
    """Put the old file back where the new one stands; what others wrote since is left alone."""
    if position(change) == "after":
        if change["before"]["absent"]:
            os.unlink(change["name"])
        else:
            os.rename(change["data"]["saved"], change["name"])
        sync_folder(os.path.dirname(change["name"]))


def leftovers(change: Change) -> bool:
    """Whether something that was staged for the change is still there."""
    folders = [folder for folder in change["data"]["created_folders"] if change["before"]["absent"] and os.path.isdir(folder) and not os.listdir(folder)]
    return bool(folders) or any(os.path.lexists(path) for path in (change["data"]["staged"], change["data"]["saved"]) if path)


def discard(change: Change) -> None:
    """Remove what was staged for a change that was not made, or was reverted."""
    _unlink(change["data"]["staged"])
    _unlink(change["data"]["saved"])
    if change["before"]["absent"]:
        _remove_empty(change["data"]["created_folders"])


def finish(change: Change) -> None:
    """Sync the rename, and remove what is no longer needed."""
    with contextlib.suppress(FileNotFoundError):  # a folder of ours, which went with its last file
        sync_folder(os.path.dirname(change["name"]))
    _unlink(change["data"]["saved"])
    _remove_empty(change["data"]["remove_folders"])


def _unlink(path: str | None) -> None:
    if path:
        try:
            os.unlink(path)
        except OSError as exc:
            # On a read-only file system a name that is not there is EROFS, too
            if exc.errno not in (errno.ENOENT, errno.ENOTDIR) and os.path.lexists(path):
                raise


def _remove_empty(folders: list[str]) -> None:
    for folder in folders:
        try:
            os.rmdir(folder)
            sync_folder(os.path.dirname(folder))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST) and not (exc.errno == errno.EROFS and not os.path.lexists(folder)):
                raise
