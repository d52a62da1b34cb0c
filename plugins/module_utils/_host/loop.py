# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A loop device over an open file, which the kernel releases by itself when nobody holds it any more. PRIVATE to kataops.aio.

Constants and structures: the kernel's ``include/uapi/linux/loop.h``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

_LOOP_SET_FD, _LOOP_CLR_FD, _LOOP_SET_STATUS64, _LOOP_SET_DIRECT_IO, _LOOP_CONFIGURE = 0x4C00, 0x4C01, 0x4C04, 0x4C08, 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
# Somebody else may take the free device between two calls.
_ATTEMPTS = 8
# struct loop_info64: 5 u64, 4 u32, then names, key and init.
_INFO = struct.Struct("=5Q4I64s64s32s2Q")


class LoopDevice:
    """A loop device over an open descriptor. A context manager.

    It is released at :meth:`close`, and by the kernel when this process dies and no other one holds it open (autoclear). It has the backing file's
    own direct I/O where the kernel grants it.

    :arg fd: the backing file, opened for reading and writing.
    :ivar path: ``/dev/loopN``.
    :raises AioError: where no loop device can be had (no permission, no driver, none in this container).
    """

    def __init__(self, fd):
        self._fd = None
        try:
            self.path = self._attach(fd)
        except OSError as exc:
            raise AioError(
                "no loop device can be had (%s)" % exc.strerror,
                where=exc.filename or "/dev/loop-control",
                expected="the loop driver and root's permission",
            ) from None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Let go of it; the last one to do so releases it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _attach(self, fd):
        for attempt in range(_ATTEMPTS):
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
            try:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            finally:
                os.close(control)
            path = "/dev/loop%d" % number
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(device, fd)
            except OSError as exc:
                os.close(device)
                if exc.errno == errno.EBUSY and attempt + 1 < _ATTEMPTS:
                    continue
                exc.filename = path
                raise
            self._fd = device
            return path
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/dev/loop-control")


def _configure(device, fd):
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO, b"", b"", b"", 0, 0)
    # struct loop_config: u32 fd, u32 block_size, loop_info64, 8 reserved u64. Linux 5.8 and later; one step, so a death in between leaves nothing.
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, struct.pack("=2I", fd, 0) + info + bytes(64))
        return
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTTY, errno.ENOSYS):
            raise
    fcntl.ioctl(device, _LOOP_SET_FD, fd)
    try:
        fcntl.ioctl(device, _LOOP_SET_STATUS64, _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, b"", b"", b"", 0, 0))
    except OSError:
        fcntl.ioctl(device, _LOOP_CLR_FD)
        raise
    # Without it the device still works, through the page cache.
    with contextlib.suppress(OSError):
        fcntl.ioctl(device, _LOOP_SET_DIRECT_IO, 1)
