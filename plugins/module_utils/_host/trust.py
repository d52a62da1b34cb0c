# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a module that runs as root believes: files that only root can change, and root's own processes. PRIVATE to kataops.aio.

A path is trusted when it, every folder on the way to it and every folder on the way to each symbolic link in it belongs to root and is not writable by
group or others. A sticky folder such as ``/tmp`` is not trusted: anyone may put a name there. (Of a POSIX ACL, the group bits show the most that it
grants.) Only what is trusted is executed, names further files, or is written to; everything else is data: read, bounded, shown.

Files of two kinds of users count like root's: those of the user that the module runs as, since it could run them itself, and those of the owners that the
site names (:func:`also_trust`, the variable ``kata_aio_trusted_owners``).
"""

from __future__ import annotations

import errno
import os
import stat
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.files import kind_of, read_head

MAX_LINKS = 40  # symbolic links in one path (the kernel's own limit)
MAX_NAMES = 64  # files that are looked at for one script
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_RAISES_PRIVILEGES = stat.S_ISUID | stat.S_ISGID
#: Tests that play a host in a folder set it: what is above is not judged. Nothing else does.
JUDGED_BELOW = "/"

_named_owners: set[int] = set()


def also_trust(owners: t.Iterable[str | int]) -> None:
    """Set the users whose files this process trusts like root's, by name or number. A name that this host does not know trusts no one."""
    _named_owners.clear()
    for owner in owners:
        text = str(owner)
        if text.isascii() and text.isdigit():
            if len(text) < 11:
                _named_owners.add(int(text))
            continue
        import pwd  # only now, as most sites name no owner

        try:
            _named_owners.add(pwd.getpwnam(text).pw_uid)
        except KeyError:
            continue


def name_of(uid: int) -> str:
    """A user as messages name him: ``alice (1000)``, or ``user 1000`` where this host has no such account."""
    import pwd

    try:
        return "%s (%d)" % (pwd.getpwuid(uid).pw_name, uid)
    except (KeyError, OverflowError):
        return "user %d" % uid


class Trust:
    """What of a host is trusted. Answers are kept, so ask a new one after a change.

    :arg root: the folder that is taken for ``/``; what is above it is not judged.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)
        self._folders: dict[str, str | None] = {}

    def file_problem(self, path: str) -> str | None:
        """Why others than root could change what is executed or read at ``path``: one sentence without the full stop; None where it is trusted."""
        return self._problem(path, stat.S_ISREG, "a regular file")

    def folder_problem(self, path: str) -> str | None:
        """As :meth:`file_problem`, of a folder."""
        return self._problem(path, stat.S_ISDIR, "a folder")

    def nearest_problem(self, path: str) -> str | None:
        """As :meth:`folder_problem`, of the folder ``path`` or of the nearest existing one above it, in which it would be made."""
        path = os.path.normpath(path)
        while not os.path.lexists(self._physical(path)) and path != "/":
            path = os.path.dirname(path)
        return self.folder_problem(path)

    def program_problem(self, path: str) -> str | None:
        """As :meth:`file_problem`, of a program with all that it names to be run: a script's interpreter, and every file that its text names.

        What a script computes at run time cannot be told: a script that only root can change is root's own decision.
        """
        problem = self.file_problem(path)
        if problem:
            return problem
        try:
            text = read_head(self._physical(path), 64 * 1024)
        except OSError as error:
            return "%s: %s" % (path, error.strerror)
        if not text.startswith(b"#!"):
            return None
        for name in names_in_script(text):
            problem = self._named_problem(name)
            if problem:
                return "%s runs or reads %s, and %s" % (path, name, problem)
        return None

    def _named_problem(self, name: str) -> str | None:
        try:
            mode = os.stat(self._physical(name)).st_mode
        except (OSError, ValueError):
            return None  # nothing is there that could be run
        return self.file_problem(name) if stat.S_ISREG(mode) else None

    def process_problem(self, process: int) -> str | None:
        """Why a process is not root's own on this host: one sentence; None where it is.

        All its user ids are root's, it lives in our (or process 1's) user, process and mount namespaces, and it runs a trusted file without setuid or
        setgid bits: with those anyone could have started it, with arguments of his choice.

        :arg process: a descriptor of its folder in proc(5); it stays that process's whatever becomes of the number.
        """
        try:
            uids = _user_ids(read_head("status", 4096, dir_fd=process))
            strangers = sorted(uid for uid in uids if uid not in (0, os.geteuid()))
            if not uids or strangers:
                return "it belongs to %s" % name_of(strangers[0]) if uids else "its user cannot be told"
            for name in ("user", "pid", "mnt"):
                if os.readlink("ns/" + name, dir_fd=process) not in self._own_namespaces(name):
                    return "it lives in another %s namespace" % {"pid": "process", "mnt": "mount"}.get(name, name)
            exe = os.readlink("exe", dir_fd=process)
            running = os.stat("exe", dir_fd=process) if self.root == "/" else os.lstat(self._physical(exe))
        except OSError as error:
            return "it cannot be looked at (%s)" % error.strerror
        if running.st_mode & _RAISES_PRIVILEGES:
            return "anyone may start %s with root's permissions" % exe
        if exe.endswith(" (deleted)"):
            # Replaced by an upgrade since it was started: the file itself has no name any more.
            exe = exe[: -len(" (deleted)")]
            return self._own_problem(exe, running) or self.folder_problem(os.path.dirname(exe))
        return self.file_problem(exe)

    def _own_namespaces(self, name: str) -> set[str]:
        found = set()
        for process in ("self", "1"):
            try:
                found.add(os.readlink(self._physical("/proc/%s/ns/%s" % (process, name))))
            except OSError:
                continue
        return found

    def _physical(self, path: str) -> str:
        return path if self.root == "/" else self.root + path

    def _problem(self, path: str, test: t.Callable[[int], bool], expected: str) -> str | None:
        """Walk the path as the kernel would, and judge everything on the way."""
        if not os.path.isabs(path) or "\0" in path:
            return "%r is not an absolute path" % path
        todo = [part for part in path.split("/") if part]
        done: list[str] = []
        links = 0
        try:
            while todo:
                here = "/" + "/".join(done)
                problem = self._folder(here)
                if problem:
                    return problem
                part = todo.pop(0)
                if part == ".":
                    continue
                if part == "..":
                    done = done[:-1]
                    continue
                name = "/" + "/".join([*done, part])
                info = os.lstat(self._physical(name))
                if stat.S_ISLNK(info.st_mode):
                    links += 1
                    if links > MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
                    target = os.readlink(self._physical(name))
                    if target.startswith("/"):
                        done = []
                    todo = [step for step in target.split("/") if step] + todo
                    continue
                done.append(part)
            here = "/" + "/".join(done)
            info = os.lstat(self._physical(here))
        except (OSError, ValueError) as error:
            return "%s cannot be looked at (%s)" % (path, getattr(error, "strerror", None) or error)
        if not test(info.st_mode):
            return "%s is not %s (%s)" % (here, expected, kind_of(info.st_mode))
        return self._own_problem(here, info)

    def _folder(self, path: str) -> str | None:
        if path not in self._folders:
            self._folders[path] = self._own_problem(path, os.lstat(self._physical(path)))
        return self._folders[path]

    def _own_problem(self, path: str, info: os.stat_result) -> str | None:
        physical = os.path.normpath(self._physical(path))
        if physical != JUDGED_BELOW and (JUDGED_BELOW + "/").startswith(physical.rstrip("/") + "/"):
            return None
        if info.st_uid not in (0, os.geteuid()) and info.st_uid not in _named_owners:
            return "%s belongs to %s, not to root" % (path, name_of(info.st_uid))
        if info.st_mode & _OTHERS_WRITE:
            who = "others" if info.st_mode & stat.S_IWOTH else "its group"
            return "%s can be changed by %s (mode %04o)" % (path, who, stat.S_IMODE(info.st_mode))
        return None


def require_folder(path: str, what: str) -> None:
    """Demand that only root can change the folder ``path``, or, where it is missing, the nearest one above it.

    :arg what: what is about to be done there, as ``"keeping the journal"``.
    :raises AioError: where others can.
    """
    problem = Trust().nearest_problem(path)
    if problem:
        raise AioError(
            "%s is refused here, because %s" % (what, problem),
            path,
            "a folder that only root can change, reached through such folders",
            "chown it to root and chmod it go-w; a user who may act as root on this host can be named in kata_aio_trusted_owners",
        )


def names_in_script(text: bytes) -> list[str]:
    """The absolute paths in a script, its interpreter first; at most :data:`MAX_NAMES`. Takes time in proportion to the text."""
    names: dict[str, None] = {}
    lines = text.split(b"\n")
    text = b"\n".join(lines[:1] + [line for line in lines[1:] if not line.lstrip().startswith(b"#")])
    table = bytes(number if 32 < number < 127 and chr(number) not in "\"'`$;&|()<>=:,{}[]*?#!" else 32 for number in range(256))
    for part in text.translate(table).split():
        # What stands before the first / of a word with a dash is an option, or a variable's default.
        word = part[max(part.find(b"/"), 0) :] if part.startswith(b"-") else part
        if word.startswith(b"/") and len(word) < 4096:
            names[os.path.normpath(word.decode("ascii"))] = None
            if len(names) >= MAX_NAMES:
                break
    return list(names)


def _user_ids(status: bytes) -> list[int]:
    """The real, effective, saved and file system user ids in /proc/PID/status."""
    for line in status.split(b"\n"):
        if line.startswith(b"Uid:"):
            return [int(field) for field in line.split()[1:5] if field.isdigit()]
    return []
