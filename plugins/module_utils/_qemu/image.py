# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small test image that a probed QEMU writes to, on the storage that is asked about. PRIVATE to kataops.aio.

It has no name (``O_TMPFILE``, or unlinked right after its creation) and reaches QEMU as an inherited descriptor, so that nothing stays behind however
the module ends. Only a QEMU that cannot open ``/proc/self/fd/N`` gets a name, and the next run sweeps what such a run left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

# One I/O of 64 KiB at any offset below; a multiple of every block size that storage has.
IMAGE_SIZE = 1024 * 1024
IO_SIZE = 64 * 1024

# Where block images are when nobody says: containerd's state (its block file snapshotter keeps them there), else /var/lib.
DEFAULT_STORAGE = ("/var/lib/containerd", "/var/lib")

# QEMU's words where it can open nothing in /proc/self/fd (a snap's confinement); the image then needs a name.
CANNOT_OPEN = r"Could not open '/proc/self/fd/\d+': (?:No such file or directory|Permission denied|Bad file descriptor)"

_NAME = re.compile(r"\.kataops-aio-probe-(\d+)-[0-9a-f]{16}\.img\Z")
# A named image younger than this may belong to a run that is still going on in another PID namespace.
_SWEEP_AGE = 600


def storage_folder(storage_path):
    """The folder to test: the nearest existing one on the way up from ``storage_path``; by default the first of :data:`DEFAULT_STORAGE` there is.

    :raises AioError: for a relative path.
    """
    if storage_path is None:
        return next((path for path in DEFAULT_STORAGE if os.path.isdir(path)), "/")
    if not os.path.isabs(storage_path):
        raise AioError("the storage path is not absolute", where=storage_path, expected="an absolute path of a folder", remedy="write the path from / on")
    path = os.path.normpath(storage_path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class Image:
    """A test image. A context manager; all of it is gone at the end.

    :arg folder: an existing folder.
    :arg size: its size in bytes; it takes no room until it is written.
    :ivar fd: its descriptor (inherit it with ``pass_fds``).
    :ivar path: how QEMU is to name it.
    :raises AioError: where the folder takes no file (read-only, full, no permission).
    """

    def __init__(self, folder, size=IMAGE_SIZE):
        self.folder = folder
        self.size = size
        self._name = None
        self.fd = None
        try:
            self.fd = self._nameless()
            try:
                os.ftruncate(self.fd, self.size)
            except OSError:
                os.close(self.fd)
                raise
        except OSError as exc:
            raise AioError(
                "no test image can be made here (%s)" % exc.strerror,
                where=folder,
                expected="a folder with a writable file system and room for a file of %d MiB" % (size // (1024 * 1024)),
                remedy="name the folder that will hold block images, as the user that QEMU runs as",
            ) from None
        self.path = "/proc/self/fd/%d" % self.fd

    @classmethod
    def in_memory(cls):
        """An image that is on no storage: good for asking what is compiled in, no more."""
        image = cls.__new__(cls)
        image.folder = image._name = None
        image.size = IMAGE_SIZE
        image.fd = os.memfd_create("kataops-aio-probe", os.MFD_CLOEXEC)
        os.ftruncate(image.fd, image.size)
        image.path = "/proc/self/fd/%d" % image.fd
        return image

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name)
            self._name = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def contains(self, pattern, offset=0):
        """Does the image hold :data:`IO_SIZE` bytes of this value at this offset?"""
        return os.pread(self.fd, IO_SIZE, offset) == bytes([pattern]) * IO_SIZE

    def give_name(self):
        """Start again with a file that has a name, for a QEMU that can open nothing in ``/proc/self/fd``."""
        sweep(self.folder)
        path = _fresh_name(self.folder)
        os.close(self.fd)
        self.fd = None
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._name = path
        os.ftruncate(self.fd, self.size)
        self.path = path

    def _nameless(self):
        try:
            return os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            # EISDIR: a kernel or file system that does not know O_TMPFILE.
            if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
        path = _fresh_name(self.folder)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd


def _fresh_name(folder):
    return os.path.join(folder, ".kataops-aio-probe-%d-%s.img" % (os.getpid(), os.urandom(8).hex()))


def sweep(folder):
    """Remove named images that killed runs left in this folder: regular files of ours, older than ten minutes, whose process is gone."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.match(entry.name)
            if not match:
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if (
                    stat.S_ISREG(status.st_mode)
                    and status.st_uid == os.geteuid()
                    and time.time() - status.st_mtime > _SWEEP_AGE
                    and not os.path.exists("/proc/" + match.group(1))
                ):
                    os.unlink(entry.path)
