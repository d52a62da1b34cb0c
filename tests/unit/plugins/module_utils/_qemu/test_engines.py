# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines' names, traces and QEMU's words. The texts are those of real QEMUs (7.2.22, 10.0.13, 11.1.3) and of the issues that users filed."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._qemu import engines as _engines
from hypothesis import given
from hypothesis import strategies as st

# (engine, QEMU's words, outcome, cause, compiled)
WORDS = [
    ("native", "aio=native was specified, but is not supported in this build.", "not_compiled", "not_in_build", False),
    ("io_uring", "Parameter 'aio' does not accept value 'io_uring'", "not_compiled", "not_in_build", False),
    ("io_uring", "Invalid parameter 'io_uring'", "not_compiled", "not_in_build", False),
    ("native", "aio=native was specified, but it requires cache.direct=on, which was not specified.", "refused", "needs_direct", True),
    (
        "native",
        "Unable to use native AIO: failed to create linux AIO context: Resource temporarily unavailable",
        "refused",
        "aio_exhausted",
        True,
    ),
    ("native", "Unable to use native AIO: failed to create linux AIO context: Operation not permitted", "refused", "kernel_refused", True),
    ("io_uring", "Unable to use io_uring: failed to init linux io_uring ring", "refused", "io_uring_refused", True),
    ("io_uring", "Unable to use io_uring: failed to init linux io_uring ring: Inappropriate ioctl for device", "refused", "io_uring_refused", True),
    (
        "io_uring",
        "aio=io_uring was specified, but is not available (disabled via io_uring_disabled sysctl or blocked by container runtime seccomp policy?)",
        "refused",
        "io_uring_refused",
        True,
    ),
    ("threads", "Could not open '/proc/self/fd/3': filesystem does not support O_DIRECT", "refused", "no_o_direct", None),
    ("native", "'host_device' driver requires '/x' to be either a character or block device", "refused", "not_a_device", None),
    ("native", "Could not open '/nonesuch': No such file or directory", "unknown", "other", None),
    # Another engine's text says nothing of this one.
    ("threads", "Parameter 'aio' does not accept value 'io_uring'", "unknown", "other", None),
]


@pytest.mark.parametrize(("engine", "words", "outcome", "cause", "compiled"), WORDS)
def test_meaning_of_qemus_words(engine, words, outcome, cause, compiled):
    meaning = _engines.meaning_of(engine, words)
    assert (meaning.outcome, meaning.cause, meaning.compiled) == (outcome, cause, compiled)
    assert meaning.reason


@given(st.sampled_from(_engines.ENGINES), st.text())
def test_any_words_have_a_meaning(engine, words):
    assert _engines.meaning_of(engine, words).reason


# Lines of /proc/PID/maps of a QEMU 7.2.22 that has used native: the file libaio.so is no context.
MAPS = """7fea622a7000-7fea622b8000 rw-s 00000000 00:13 117304                     /[aio] (deleted)
7fea622b8000-7fea622c9000 rw-s 00000000 00:13 117305                     /[aio] (deleted)
7fea62c48000-7fea62c49000 r--p 00000000 fe:00 5595276                    /usr/lib/x86_64-linux-gnu/libaio.so.1.0.2
7f5a5ec00000-7f5a5eeae000 r--p 00000000 fe:00 2230696                    /opt/aio/[aio] x
"""


def test_contexts_are_counted_in_maps():
    assert _engines.count_aio_contexts(MAPS) == 2
    assert _engines.count_aio_contexts("") == 0


def test_rings_are_counted_among_links():
    assert _engines.count_rings(["anon_inode:[io_uring]", "anon_inode:[eventfd]", "/tmp/anon_inode:[io_uring]", "anon_inode:[io_uring]"]) == 2


@given(st.text())
def test_any_maps_text_is_counted(text):
    assert _engines.count_aio_contexts(text) >= 0


def trace(aio=0, rings=0, threads=3, written=None):
    return _engines.Trace(aio, rings, threads, written)


FALL_BACK = "qemu-system-x86_64: Unable to use linux io_uring, falling back to thread pool: failed to init linux io_uring ring: Operation not permitted\n"
FALL_BACK_AIO = (
    "qemu-system-x86_64: Unable to use Linux AIO, falling back to thread pool: failed to create linux AIO context: Resource temporarily unavailable\n"
)
# Measured: (engine asked, before, after, stderr, engine used)
USED = [
    ("native", trace(), trace(aio=1), "", "native"),  # 7.2.22, 10.0.13, 11.1.3
    ("native", trace(), trace(threads=4), "", "threads"),  # 10.0.13 with fs.aio-max-nr=1
    ("native", trace(rings=3), trace(aio=1, rings=3), "", "native"),  # 11.1.3: its event loops have rings
    ("io_uring", trace(), trace(rings=1), "", "io_uring"),  # 7.2.22, 10.0.13
    ("io_uring", trace(), trace(threads=4), FALL_BACK, "threads"),  # 10.0.13 with io_uring_disabled=2
    ("io_uring", trace(rings=3), trace(rings=3), "", "io_uring"),  # 11.1.3
    ("io_uring", trace(rings=3), trace(rings=3), FALL_BACK, "threads"),
    ("io_uring", trace(rings=3), trace(rings=3, threads=4), "", "threads"),
    # 11.1.3 on Linux 6.18: io_uring with a thread that a request of the host device's driver made start, and threads without a new one
    ("io_uring", trace(rings=3, written=5000), trace(rings=3, threads=4, written=6795), "", "io_uring"),
    ("io_uring", trace(rings=3, written=5000), trace(rings=3, written=72341), "", "threads"),
    ("threads", trace(rings=3), trace(rings=3, threads=4), "", "threads"),
    ("threads", trace(aio=1, rings=1), trace(aio=1, rings=1), "", "threads"),
    ("native", None, trace(), "", None),
    ("native", trace(), None, "", None),
]


@pytest.mark.parametrize(("engine", "before", "after", "stderr", "used"), USED)
def test_engine_used(engine, before, after, stderr, used):
    assert _engines.engine_used(engine, before, after, 65536, stderr) == used


# All three engines in one go, with what 7.2.22, 10.0.13 and 11.1.3 showed: (before, after, stderr, native used, io_uring used)
TOGETHER = [
    (trace(written=0), trace(aio=1, rings=1, written=65536), "", "native", "io_uring"),
    (trace(written=0), trace(rings=1, written=131072), FALL_BACK_AIO, "threads", "io_uring"),
    (trace(written=0), trace(aio=1, written=131072), FALL_BACK, "native", "threads"),
    (trace(written=0), trace(written=196608), FALL_BACK + FALL_BACK_AIO, "threads", "threads"),
    (trace(rings=3, written=9), trace(aio=1, rings=3, written=65545), "", "native", "io_uring"),
    (trace(rings=3, written=9), trace(rings=3, written=131081), FALL_BACK_AIO, "threads", "io_uring"),
    (trace(rings=3, written=9), trace(aio=1, rings=3, written=131081), "", "native", "threads"),
    (trace(rings=3, written=9), trace(aio=1, rings=3, written=65545), FALL_BACK, "native", "threads"),
    (trace(rings=3), trace(aio=1, rings=3), "", "native", None),  # who wrote is not told
    (trace(), trace(aio=1, rings=1), "", "native", "io_uring"),
    (None, trace(), "", None, None),
]


@pytest.mark.parametrize(("before", "after", "stderr", "native", "io_uring"), TOGETHER)
def test_engines_used_together(before, after, stderr, native, io_uring):
    used = _engines.engines_used(("io_uring", "native", "threads"), before, after, 65536, stderr)
    assert used == {"io_uring": io_uring, "native": native, "threads": None if before is None else "threads"}


def test_trace_of_this_process_and_of_none():
    assert _engines.kernel_trace([os.getpid()]).threads >= 1
    assert _engines.kernel_trace([2**22 + 1]) is None


def test_kernel_workers_are_no_threads_of_qemu(tmp_path):
    for name, comm in (("7", "qemu-system-x86"), ("8", "iou-wrk-7"), ("9", "worker")):
        (tmp_path / "7" / "task" / name).mkdir(parents=True)
        (tmp_path / "7" / "task" / name / "comm").write_text(comm + "\n")
    (tmp_path / "7" / "fd").mkdir()
    (tmp_path / "7" / "fd" / "4").symlink_to("anon_inode:[io_uring]")
    (tmp_path / "7" / "maps").write_text(MAPS)
    assert _engines.kernel_trace([7, 8], proc=str(tmp_path)) == (2, 1, 2, None)
    (tmp_path / "7" / "io").write_text("rchar: 950\nwchar: 1788\nsyscr: 208\n")
    (tmp_path / "7" / "task" / "7" / "io").write_text("rchar: 900\nwchar: 788\nsyscr: 200\n")  # QMP answers
    assert _engines.kernel_trace([7, 8], proc=str(tmp_path)) == (2, 1, 2, 1000)
    assert "threads 2 -> 2, bytes written by threads 1000 -> unknown" in _engines.trace_words(
        _engines.kernel_trace([7], proc=str(tmp_path)), _engines.Trace(0, 0, 2, None)
    )


def test_fall_back_words_are_only_the_thread_pools():
    both = "qemu: falling back to tcg\n" + FALL_BACK + FALL_BACK_AIO
    assert _engines.fallback_words(both, "io_uring") == FALL_BACK.strip()
    assert _engines.fallback_words(both, "native") == FALL_BACK_AIO.strip()
    assert _engines.fallback_words("qemu: falling back to tcg\n", "native") is None
