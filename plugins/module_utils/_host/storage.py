# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a folder's file system take O_DIRECT? Asked by doing it. PRIVATE to kataops.aio.

QEMU refuses ``aio=native`` without ``cache.direct=on``, and that opens the image with O_DIRECT, which not every file system takes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head
from ansible_collections.kataops.aio.plugins.module_utils._host.in_child import in_child

_BLOCKS = (4096, 65536)  # a device with larger blocks than the first refuses the first
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)
_MOST_MOUNTINFO = 16 << 20


def observe_storage(paths):
    """The contract ``storage`` of docs/architecture.md: one entry per path, in order.

    Each probe runs in a child process with a time limit, for a dead network file system lets nobody go. Nothing is left behind: the file has no
    name, or loses it at once. On a file system mounted read-only nothing is tried.
    """
    entries = []
    for path in paths:
        entry, reason = in_child(lambda path=path: _probe(path))
        if entry is None:
            entry = _entry(path)
            entry["reason"] = "The probe of %s: %s" % (path, reason)
        entries.append(entry)
    return entries


def _entry(path):
    return {"path": path, "probed": None, "filesystem": None, "o_direct": None, "reason": None, "evidence": []}


def _probe(path):
    entry = _entry(path)
    if not os.path.isabs(path):
        entry["reason"] = "%r is not an absolute path." % path
        return entry
    folder = nearest_folder(path)
    if folder is None:
        entry["reason"] = "%s is not a folder. Name the folder that will hold the block images." % path
        return entry
    entry["probed"] = folder
    try:
        entry["filesystem"] = filesystem_of(os.path.realpath(folder), parse_mountinfo(read_head("/proc/self/mountinfo", _MOST_MOUNTINFO)))
    except OSError as error:
        entry["reason"] = "/proc/self/mountinfo: %s." % error.strerror
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        entry["reason"] = "%s is mounted read-only, so O_DIRECT was not tried there." % folder
        return entry
    entry["o_direct"], reason, answered = _try_direct(folder)
    entry["reason"] = reason
    asked = "open an unnamed file in %s with O_DIRECT, write and read one block" % folder
    entry["evidence"] = [{"asked": asked, "answered": answered, "by": "syscall"}]
    return entry


def nearest_folder(path):
    """The folder ``path``, or the nearest one above it that exists; None where ``path`` exists and is no folder."""
    path = os.path.normpath(path)
    while True:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if parent == path:
                return None
            path = parent
            continue
        return path if stat.S_ISDIR(mode) else None


def parse_mountinfo(raw):
    """The mounts in /proc/PID/mountinfo (proc(5)) as (mount point, file system type), in its order; malformed lines are passed over. Never raises."""
    mounts = []
    for line in raw.split(b"\n"):
        fields = line.split(b" ")
        try:
            separator = fields.index(b"-", 6)
            mounts.append((os.fsdecode(_unescape(fields[4])), os.fsdecode(fields[separator + 1])))
        except (ValueError, IndexError):
            continue
    return mounts


def _unescape(field):
    """The kernel writes blank, tab, newline and backslash as a backslash and three octal digits."""
    parts = field.split(b"\\")
    whole = [parts[0]]
    for part in parts[1:]:
        digits = part[:3]
        if len(digits) == 3 and not digits.strip(b"01234567") and int(digits, 8) < 256:
            whole.append(bytes((int(digits, 8),)) + part[3:])
        else:
            whole.append(b"\\" + part)
    return b"".join(whole)


def filesystem_of(path, mounts):
    """The type of the file system of ``path`` (absolute, real): that of the longest mount point, the last one where several cover it."""
    best, longest = None, -1
    for point, kind in mounts:
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= longest:
            best, longest = kind, len(point)
    return best


def _try_direct(folder):
    """(True, False or None, reason, what the kernel said)"""
    try:
        descriptor = _open_unnamed(folder, os.O_DIRECT)
    except OSError as error:
        return _refusal("open", folder, error)
    try:
        for size in _BLOCKS:
            error = _write_and_read(descriptor, size)
            if error is None:
                return True, None, "opened; %d bytes written and read back" % size
            if error.errno != errno.EINVAL:
                break
        return _refusal("write and read", folder, error)
    finally:
        os.close(descriptor)


def _refusal(what, folder, error):
    words = "%s: %s (%s)" % (what, errno.errorcode.get(error.errno, error.errno), error.strerror)
    if error.errno == errno.EINVAL:
        return False, "The file system of %s does not take O_DIRECT." % folder, words
    return None, "O_DIRECT could not be tried in %s: %s." % (folder, words), words


def _open_unnamed(folder, flags):
    """A file in ``folder`` that has no name, opened for reading and writing."""
    flags |= os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, os.O_TMPFILE | flags, 0o600)
    except OSError as error:
        if error.errno == errno.EINVAL and _has_tmpfile(folder):
            raise  # it is O_DIRECT that is refused
        if error.errno != errno.EINVAL and error.errno not in _NO_TMPFILE:
            raise
    path = os.path.join(folder, ".kataops-aio-%d-%s" % (os.getpid(), os.urandom(8).hex()))
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | flags, 0o600)
    finally:
        # The kernel creates the file before it looks at O_DIRECT, so it is there also when the open failed.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _has_tmpfile(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    return True


def _write_and_read(descriptor, size):
    """None, or the OSError of one aligned write and read of ``size`` bytes."""
    with mmap.mmap(-1, size) as block:  # page-aligned, as O_DIRECT wants it
        block[:] = b"kataops\n" * (size // 8)
        try:
            if os.pwritev(descriptor, [block], 0) != size:
                return OSError(errno.EIO, "short write")
            written = bytes(block)
            block[:] = bytes(size)
            if os.preadv(descriptor, [block], 0) != size or bytes(block) != written:
                return OSError(errno.EIO, "what was read is not what was written")
        except OSError as error:
            return error
    return None
