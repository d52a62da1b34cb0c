# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's own strings in its ELF file: what a binary that is not run says of its engines and its version. PRIVATE to kataops.aio."""

from __future__ import annotations

import re
import time

# QEMU's own strings (domain reference 1.5): present in the binary if and only if it was built so.
MARKS = {
    "native_absent": b"aio=native was specified, but is not supported",
    "native_present": b"failed to create linux AIO context",
    "io_uring_absent": b"aio=io_uring was specified, but is not supported",
    "io_uring_present": b"failed to init linux io_uring ring",
    "io_uring_present_10_2": b"aio=io_uring was specified, but is not available",
    "qemu": b"QEMU emulator version",
}
_VERSION = rb"QEMU emulator version (\d{1,3}\.\d{1,3}\.\d{1,3})(?: \(([^)\x00-\x1f]{1,200})\))?"
# The longest text that _VERSION matches is shorter; so much of a chunk is seen again with the next one.
_LONGEST = 256
_OVERLAP = 2 * _LONGEST
_CHUNK = 4 * 1024 * 1024
# A static QEMU with all its parts has some 150 MB; beyond these limits a file is not searched.
MAX_SEARCHED = 512 * 1024 * 1024
MAX_SECONDS = 20


def find_marks(stream):
    """Search a file for QEMU's own strings, 4 MiB at a time, at most :data:`MAX_SEARCHED` bytes and :data:`MAX_SECONDS` seconds.

    :returns: ``{"marks": set of MARKS' keys that are in it, "version": "7.2.22" | None, "package": "Debian ..." | None}``.
    """
    marks, version, package = set(), None, None
    wanted = dict(MARKS)
    stream.seek(0)
    tail = b""
    searched, deadline = 0, time.monotonic() + MAX_SECONDS
    while (wanted or version is None) and searched < MAX_SEARCHED and time.monotonic() < deadline:
        read = stream.read(_CHUNK)
        searched += len(read)
        if not read and not tail:
            break
        data = tail + read
        for name in [name for name, text in wanted.items() if text in data]:
            marks.add(name)
            del wanted[name]
        if version is None and "qemu" in marks:
            match = re.search(_VERSION, data)
            # A text at the end of the chunk may go on in the next one.
            if match and (not read or match.start() + _LONGEST <= len(data)):
                version = match.group(1).decode("ascii")
                package = match.group(2).decode("utf-8", "replace") if match.group(2) else None
        tail = data[-_OVERLAP:] if read else b""
    return {"marks": marks, "version": version, "package": package}


def compiled_by_marks(marks):
    """``{"native": True|False|None, "io_uring": ...}``: which engines the strings say are in it; None where they say neither or both."""
    result = {}
    for engine, present in (("native", ("native_present",)), ("io_uring", ("io_uring_present", "io_uring_present_10_2"))):
        absent = engine + "_absent" in marks
        there = any(name in marks for name in present)
        result[engine] = None if absent == there else there
    return result
