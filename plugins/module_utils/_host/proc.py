# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of proc(5), which tell no size. PRIVATE to kataops.aio."""

from __future__ import annotations

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head

_MOST_BYTES = 8 << 20  # of one /proc file; QEMU's maps have some 50 KB


def read_file(path, problems=None):
    """The bytes of a file, at most 8 MiB, or None where it cannot be read.

    :arg problems: a list that gets one sentence about what went wrong.
    """
    try:
        return read_head(path, _MOST_BYTES)
    except OSError as error:
        if problems is not None:
            problems.append("%s: %s." % (path.rpartition("/")[2], error.strerror))
        return None
