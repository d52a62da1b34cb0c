# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to run a command to its end: bounded output, a time limit, a fixed environment, nothing left behind. PRIVATE to kataops.aio."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child, OutputTooLong
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import PATH, Guard, shared


class Done(t.NamedTuple):
    """How a command went.

    ``status``: its exit status (negative: a signal), None where it did not come to its end. ``output``: what it printed on stdout, ``words`` the first
    64 KiB of what it printed on stderr, as bytes and as text. ``problem``: why there is no status, one sentence without the full stop, else None.
    ``missing``: whether there is no such command.
    """

    status: int | None
    output: bytes
    words: str
    problem: str | None = None
    missing: bool = False

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


def find(name: str) -> str | None:
    """The path of a command in :data:`~.guard.PATH`, or None. The module's own PATH is not looked at."""
    if "/" in name:
        return name
    for folder in PATH.split(":"):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(
    argv: t.Sequence[str],
    seconds: float,
    limit: int = 1024 * 1024,
    environment: dict[str, str] | None = None,
    guard: Guard | None = None,
) -> Done:
    """Run a command with no input. What it does is a result, never an exception.

    :arg argv: its name, as :func:`find` finds it, or path, and its arguments.
    :arg seconds: when it is killed, with all that it started.
    :arg limit: bytes of stdout and stderr together, beyond which it is killed.
    :arg environment: variables beside :data:`~.guard.ENVIRONMENT`.
    :arg guard: an entered guard to start it with; by default the shared one, which gives it no network.
    """
    program = find(argv[0])
    if program is None:
        return Done(None, b"", "", "there is no command %s" % argv[0], missing=True)
    try:
        child = Child([program, *argv[1:]], guard or shared(), seconds, environment=environment, limit=limit)
    except OSError as error:
        return Done(None, b"", "", "the kernel does not run it: %s" % error.strerror, missing=isinstance(error, FileNotFoundError))
    child.close_input()
    output, problem, status = b"", None, None
    try:
        output = child.rest()
        status = child.wait()
    except OutputTooLong as error:
        problem = error.what
    finally:
        child.end()
    if status is None and problem is None:
        problem = "it did not end within %g seconds, so it was killed" % seconds
    return Done(status, output, child.all_words(), problem)
