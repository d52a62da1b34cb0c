# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of proc(5), which tell no size. PRIVATE to kataops.aio."""

from __future__ import annotations

import os

_MOST_BYTES = 8 << 20  # of one /proc file; QEMU's maps have some 50 KB


def read_file(path, problems=None):
    """The bytes of a file, at most 8 MiB, or None where it cannot be read.

    :arg problems: a list that gets one sentence about what went wrong.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if problems is not None:
            problems.append("%s: %s." % (path.rpartition("/")[2], error.strerror))
        return None
    try:
        chunks, size = [], 0
        while size < _MOST_BYTES:
            chunk = os.read(descriptor, 16384)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
    except OSError as error:
        if problems is not None:
            problems.append("%s: %s." % (path.rpartition("/")[2], error.strerror))
        return None
    finally:
        os.close(descriptor)
