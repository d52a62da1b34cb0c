# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to read a file of a host: regular files only, never more bytes than asked for, never blocking. PRIVATE to kataops.aio.

A FIFO, a socket or a device is refused before it is opened (opening a tape rewinds it), and again on the descriptor, should it have taken the file's
place meanwhile. Files of proc(5) tell no size and are regular files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISREG, "regular"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


class NotRegular(OSError):
    """It is not a regular file."""


class TooLarge(OSError):
    """It has more bytes than are read of such a file."""


def kind_of(mode: int) -> str:
    """The name of a file type, of ``st_mode``."""
    for test, name in _KINDS:
        if test(mode):
            return name
    return "other"


@contextlib.contextmanager
def opened(path: str | bytes, follow: bool = True, dir_fd: int | None = None) -> t.Iterator[int]:
    """A descriptor of a regular file, for reading.

    :arg follow: whether the last component may be a symbolic link.
    :arg dir_fd: the folder that a relative path is below.
    :raises NotRegular: where it is anything else. :raises OSError: where it cannot be opened.
    """
    _require_regular(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow).st_mode, path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=dir_fd)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_regular(mode: int, path: str | bytes) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegular(errno.EINVAL, "not a regular file (%s)" % kind_of(mode), path)


def read_from(descriptor: int, limit: int) -> bytes:
    """The bytes of an open file from where it stands, at most ``limit``."""
    parts, left = [], limit
    while left > 0:
        part = os.read(descriptor, min(left, _CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_head(path: str | bytes, limit: int, dir_fd: int | None = None) -> bytes:
    """The first bytes of a regular file, at most ``limit``.

    :raises OSError: where it is not a regular file or cannot be read.
    """
    with opened(path, dir_fd=dir_fd) as descriptor:
        return read_from(descriptor, limit)


def read_whole(path: str | bytes, limit: int, follow: bool = True) -> bytes:
    """All bytes of a regular file of at most ``limit``.

    :raises TooLarge: where it has more. :raises OSError: where it is not a regular file or cannot be read.
    """
    with opened(path, follow) as descriptor:
        return whole_from(descriptor, limit, path)


def whole_from(descriptor: int, limit: int, path: str | bytes) -> bytes:
    """As :func:`read_whole`, of an open file; ``path`` is for the message."""
    data = read_from(descriptor, limit + 1)
    if len(data) > limit:
        raise TooLarge(errno.EFBIG, "larger than %d bytes" % limit, path)
    return data
