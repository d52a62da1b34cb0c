# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe in a forked child, with a time limit. PRIVATE to kataops.aio."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import time

CHILD_SECONDS = 5


# Children that have answered, but have not been seen to end.
_leaving = []


def in_child(function, seconds=CHILD_SECONDS):
    """Run ``function`` in a forked child; return (its JSON-able result, None) or (None, reason). Bounded: a child that hangs is killed.

    The child never returns into the caller's code, and nothing of it is left behind, unless it sleeps uninterruptibly in the kernel (a dead
    network file system): then it is left to the kernel, and the caller goes on.
    """
    _leaving[:] = [pid for pid in _leaving if not _gone(pid)]
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            try:
                answer = {"result": function()}
            except OSError as error:
                answer = {"reason": "%s." % (error.strerror or error)}
            except Exception as error:  # pylint: disable=broad-except
                answer = {"reason": "%s: %s." % (type(error).__name__, error)}
            os.write(writer, json.dumps(answer).encode("ascii") + b"\n")  # far below PIPE_BUF, so one write takes it
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    try:
        raw = _read_until(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
    if raw is None:
        os.kill(pid, signal.SIGKILL)
        _reap(pid, 1)
        return None, "no answer within %d seconds." % seconds
    # What the kernel still does for its end (30 ms where it had an AIO context) need not be waited for.
    _leaving.append(pid)
    try:
        answer = json.loads(raw.decode("ascii"))
    except ValueError:
        return None, "the probe ended without an answer."
    if "reason" in answer:
        return None, answer["reason"]
    return answer["result"], None


def _read_until(descriptor, deadline):
    chunks = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        chunk = os.read(descriptor, 65536)
        chunks.append(chunk)
        # The pipe's own end comes later: after what the kernel still does for the child's memory.
        if not chunk or chunk.endswith(b"\n"):
            return b"".join(chunks)


def _reap(pid, seconds):
    deadline = time.monotonic() + seconds
    while not _gone(pid) and time.monotonic() < deadline:
        time.sleep(0.001)


def _gone(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


@atexit.register
def reap_all():
    """Wait for the ends of children that have answered."""
    while _leaving:
        _reap(_leaving.pop(), 1)
