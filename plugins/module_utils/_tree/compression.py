# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads compressed files by what they are, not by their names. PRIVATE to kataops.aio."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import subprocess

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import command
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import ENVIRONMENT

_MAGICS = ((b"\xfd7zXZ\x00", "xz"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


def compression(path):
    """``xz``, ``gzip``, ``zstd``, or None where it is none of these."""
    with open(path, "rb") as handle:
        head = handle.read(6)
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    return None


def open_stream(path):
    """A context manager with a readable binary stream of a compressed file's contents.

    :raises AioError: another form, or zstd where neither Python (3.14) nor a ``zstd`` command can read it.
    """
    kind = compression(path)
    if kind == "xz":
        return lzma.open(path, "rb")
    if kind == "gzip":
        return gzip.open(path, "rb")
    if kind == "zstd":
        return _zstd(path)
    raise AioError("not an archive in xz, gzip or zstd form", where=path, expected="a .tar.xz, .tar.gz or .tar.zst")


@contextlib.contextmanager
def _zstd(path):
    try:
        from compression import zstd  # noqa: PLC0415 (Python 3.14 and later)
    except ImportError:
        zstd = None
    if zstd is not None:
        try:
            with zstd.open(path, "rb") as stream:
                yield stream
        except zstd.ZstdError as error:
            raise EOFError(str(error)) from None
        return
    program = command.find("zstd")
    if not program:
        raise AioError("this machine cannot read zstd", where=path, expected="the command zstd, or Python 3.14", remedy="install the package zstd")
    # A stream of gigabytes, which the manifest bounds; it ends with its reader.
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # nosec B603  # a fixed command; run_command keeps all output
        [program, "-dcq", "--", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    finished = False
    try:
        yield process.stdout
        finished = not process.stdout.read(1)
    finally:
        process.stdout.close()
        words = process.stderr.read().decode("utf-8", "replace").strip()
        process.stderr.close()
        status = process.wait()
    if finished and status:
        raise EOFError(words or "zstd ended with status %d" % status)
