# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe in a forked child, with a time limit. PRIVATE to kataops.aio."""

from __future__ import annotations

import json
import os
import select
import signal
import time

CHILD_SECONDS = 5


def in_child(function, seconds=CHILD_SECONDS):
    """Run ``function`` in a forked child; return (its JSON-able result, None) or (None, reason). Bounded: a child that hangs is killed.

    The child never returns into the caller's code, and nothing of it is left behind, unless it sleeps uninterruptibly in the kernel (a dead
    network file system): then it is left to the kernel, and the caller goes on.
    """
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
            os.write(writer, json.dumps(answer).encode("ascii"))  # far below PIPE_BUF, so one write takes it
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
    _reap(pid, 1)
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
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _reap(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.001)
