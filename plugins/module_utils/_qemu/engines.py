# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three engines of QEMU's host block drivers: names, kernel traces, and what QEMU's answers mean. PRIVATE to kataops.aio.

Nothing here starts a process. The texts are QEMU's own (``block/file-posix.c``, ``block/io_uring.c``, ``block/linux-aio.c``, ``util/osdep.c``;
releases 6.2 to 11.0); the version of a QEMU is never looked at.
"""

from __future__ import annotations

import os
import re
from collections import namedtuple

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head

ENGINES = ("threads", "native", "io_uring")

# How many events QEMU asks the kernel for per AioContext (MAX_EVENTS in QEMU's block/linux-aio.c).
AIO_EVENTS_PER_CONTEXT = 1024

_MOST_MAPS = 16 << 20  # QEMU's map has some 50 KB
# Of an error's description so much is looked at; QEMU's longest has some 200 characters.
MAX_WORDS = 4096

Trace = namedtuple("Trace", ("aio_contexts", "io_uring_rings", "threads", "written"))
Trace.__doc__ = """What the kernel shows of one or more processes at one moment.

:ivar aio_contexts: mappings named ``[aio]`` (one per ``io_setup(2)``).
:ivar io_uring_rings: descriptors that are ``anon_inode:[io_uring]``.
:ivar threads: its threads, without the kernel's own io_uring workers (``iou-*``). QEMU's thread pool starts one when it needs one, and ends
    it when idle.
:ivar written: bytes that its threads but the first wrote so far by system calls like ``pwritev(2)`` (``wchar`` of ``/proc/PID/io``); what io_uring
    wrote is not among them. None where the kernel does not tell.
"""

Meaning = namedtuple("Meaning", ("outcome", "cause", "compiled", "needs_direct", "reason"))
Meaning.__doc__ = """What one refusal of ``blockdev-add`` means.

:ivar outcome: ``not_compiled``, ``refused`` or ``unknown``.
:ivar cause: ``not_in_build``, ``needs_direct``, ``aio_exhausted``, ``io_uring_refused``, ``kernel_refused``, ``no_o_direct``, ``not_a_device`` or
    ``other``.
:ivar compiled: True, False or None.
:ivar needs_direct: True where QEMU demanded ``cache.direct``; else None.
:ivar reason: one sentence, or None where QEMU's words say all.
"""

_AIO_MAPPING = re.compile(r"\s/\[aio\](?: \(deleted\))?$", re.MULTILINE)
_RING_LINK = "anon_inode:[io_uring]"

# Texts: compiled patterns would be made again by every run on every host, and most hosts need none of them.
# (engine or None, pattern, outcome, cause, compiled, needs_direct, reason); the first match counts.
_ANSWERS = (
    (
        None,
        r"aio=\S{1,32} was specified, but is not supported in this build",
        "not_compiled",
        "not_in_build",
        False,
        None,
        "this QEMU was built without it",
    ),
    (
        "io_uring",
        r"(?:does not accept value|Invalid parameter) '?io_uring'?",
        "not_compiled",
        "not_in_build",
        False,
        None,
        "this QEMU was built without it",
    ),
    (
        "native",
        r"aio=native was specified, but it requires cache\.direct=on",
        "refused",
        "needs_direct",
        True,
        True,
        "QEMU refuses native without cache.direct",
    ),
    (
        "native",
        r"failed to create linux AIO context: Resource temporarily unavailable",
        "refused",
        "aio_exhausted",
        True,
        None,
        "the kernel has no free AIO events: fs.aio-nr + 1024 is over fs.aio-max-nr",
    ),
    (
        "native",
        r"failed to create linux AIO context|Unable to use native AIO",
        "refused",
        "kernel_refused",
        True,
        None,
        "the kernel refuses io_setup(2)",
    ),
    (
        "io_uring",
        r"failed to init linux io_uring ring|Unable to use (?:linux )?io_uring",
        "refused",
        "io_uring_refused",
        True,
        None,
        "the kernel refuses io_uring_setup(2)",
    ),
    (
        "io_uring",
        r"aio=io_uring was specified, but is not available",
        "refused",
        "io_uring_refused",
        True,
        None,
        "the kernel refuses io_uring_setup(2)",
    ),
    (None, r"filesystem does not support O_DIRECT", "refused", "no_o_direct", None, None, "the storage does not support O_DIRECT"),
    (
        None,
        r"driver requires '.{0,64}' to be either a character or block device",
        "refused",
        "not_a_device",
        None,
        None,
        "the host_device driver takes no regular file",
    ),
)
_FALL_BACK = r"(?m)^.*falling back to thread pool.*$"


def meaning_of(engine, words):
    """Classify QEMU's refusal of ``blockdev-add`` with this engine.

    :arg engine: one of :data:`ENGINES`.
    :arg words: the ``desc`` of QEMU's error, any length; the first :data:`MAX_WORDS` characters count.
    :returns: :class:`Meaning`; ``unknown``/``other`` with QEMU's words as reason where the text is not known.
    """
    words = words[:MAX_WORDS]
    for row in _ANSWERS:
        if row[0] in (None, engine) and re.search(row[1], words):
            return Meaning(*row[2:])
    return Meaning("unknown", "other", None, None, "QEMU refused with words that are not known: %s" % words[:500])


def fallback_words(stderr, engine):
    """The lines of QEMU's stderr that admit a fall-back from this engine to threads (QEMU 9.0 to 10.1), joined; None where there is none."""
    lines = [line.strip()[:500] for line in re.findall(_FALL_BACK, stderr) if ("io_uring" if engine == "io_uring" else "AIO") in line]
    return "; ".join(lines) or None


def count_aio_contexts(maps):
    """The number of ``[aio]`` mappings in the text of ``/proc/PID/maps``."""
    return len(_AIO_MAPPING.findall(maps))


def count_rings(links):
    """The number of io_uring descriptors among the link texts of ``/proc/PID/fd``."""
    return sum(1 for link in links if link == _RING_LINK)


def kernel_trace(pids, proc="/proc"):
    """Read the engines' traces of some processes.

    :arg pids: process ids; their traces are added up. One that is gone counts nothing.
    :returns: :class:`Trace`, or None where no process could be read.
    """
    aio = rings = threads = written = 0
    seen = False
    for pid in pids:
        base = os.path.join(proc, str(pid))
        try:
            maps = read_head(os.path.join(base, "maps"), _MOST_MAPS).decode("utf-8", "replace")
            names = os.listdir(os.path.join(base, "fd"))
            threads += _own_threads(os.path.join(base, "task"))
        except OSError:
            continue
        links = []
        for name in names:
            try:
                links.append(os.readlink(os.path.join(base, "fd", name)))
            except OSError:
                continue
        # The main thread's own are left out: those are its answers to QMP, never an I/O.
        counts = _written(os.path.join(base, "io")), _written(os.path.join(base, "task", str(pid), "io"))
        written = None if written is None or None in counts else written + counts[0] - counts[1]
        aio += count_aio_contexts(maps)
        rings += count_rings(links)
        seen = True
    return Trace(aio, rings, threads, written) if seen else None


def _own_threads(folder):
    count = 0
    for task in os.listdir(folder):
        try:
            with open(os.path.join(folder, task, "comm"), "rb") as stream:
                count += not stream.read().startswith(b"iou-")
        except OSError:
            continue
    return count


def _written(path):
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if line.startswith(b"wchar: "):
                    return int(line[7:])
    except (OSError, ValueError):
        pass
    return None


def engine_used(engine, before, after, size, stderr=""):
    """Which engine served one I/O that was asked of ``engine``; see :func:`engines_used`."""
    return engines_used((engine,), before, after, size, stderr)[engine]


def engines_used(wrote, before, after, size, stderr=""):
    """Which engine served each of several I/Os between two looks at a QEMU.

    A new trace decides. From QEMU 10.2 on every event loop has a ring of its own, whatever the engine, and the io_uring engine shares it; then
    nothing new appears, and it is io_uring where QEMU admitted no fall-back and the bytes were not written by a thread's system call (observed on
    11.1.3). Where the kernel does not tell the bytes, it is io_uring where no thread was started for the I/O; of several I/Os that cannot be told.

    :arg wrote: the engines asked for, one write each.
    :arg before, after: :class:`Trace` around the nodes' lives up to their first writes; None is unknown.
    :arg size: bytes of each write.
    :arg stderr: what QEMU printed in that time.
    :returns: ``{engine asked: threads, native, io_uring or None}``.
    """
    if before is None or after is None:
        return dict.fromkeys(wrote)
    used = dict.fromkeys(wrote, "threads")
    if "native" in used and after.aio_contexts > before.aio_contexts:
        used["native"] = "native"
    if "io_uring" not in used:
        return used
    if after.io_uring_rings > before.io_uring_rings:
        used["io_uring"] = "io_uring"
    elif after.io_uring_rings and after.io_uring_rings == before.io_uring_rings and not fallback_words(stderr, "io_uring"):
        by_threads = sum(1 for engine in used if engine != "io_uring" and used[engine] == "threads")
        if before.written is not None and after.written is not None:
            used["io_uring"] = "threads" if after.written - before.written >= size * (by_threads + 1) else "io_uring"
        elif len(used) == 1:
            used["io_uring"] = "threads" if after.threads > before.threads else "io_uring"
        else:
            used["io_uring"] = None
    return used


def trace_words(before, after):
    """Two :class:`Trace` as one line of evidence."""
    if before is None or after is None:
        return "not readable"
    pairs = zip(("[aio] mappings", "io_uring rings", "threads", "bytes written by threads"), before, after)
    return ", ".join("%s %s -> %s" % (name, "unknown" if one is None else one, "unknown" if two is None else two) for name, one, two in pairs)


def evidence(asked, answered, by):
    """One item of evidence; see the architecture page. Long answers are cut at 2,000 characters."""
    answered = answered if isinstance(answered, str) else repr(answered)
    return {"asked": asked, "answered": answered[:2000], "by": by}


def unknown_engine(reason):
    """The result of an engine that nothing is known of yet, because of ``reason``."""
    return {
        "compiled": None,
        "compiled_by": None,
        "usable": None,
        "outcome": "unknown",
        "cause": None,
        "needs_direct": None,
        "observed": None,
        "reason": reason,
        "evidence": [],
    }
