# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands, telling what goes on, and the one kind of error that a user sees."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager


class LabError(Exception):
    """One clear message: what failed, where, what to do."""


def say(text):
    """Progress goes to stderr: stdout belongs to results."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def timed(text):
    """Announces a step and how long it took (seconds)."""
    started = time.monotonic()
    say(f"{text} ...")
    yield
    say(f"{text}: {time.monotonic() - started:.1f} s")


def shown(*command):
    """Runs a command whose own words reach the user as they come."""
    code = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    if code != 0:
        raise LabError(f"{' '.join(map(str, command))} failed (code {code}); its words stand above")


def run(*command, stdin=None, check=True, timeout=None, env=None):
    """Runs a command; returns its CompletedProcess with text output. A failure is a LabError with the command's own last words."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=not isinstance(stdin, bytes),
            timeout=timeout,
            env=env,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"the command '{command[0]}' is missing: run tests/lab/env --lab, which installs the lab's tools") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout} s: {' '.join(map(str, command))}") from error
    if check and done.returncode != 0:
        words = done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace")
        tail = "\n".join(words.strip().splitlines()[-12:]) or "(it said nothing)"
        raise LabError(f"failed with code {done.returncode}: {' '.join(map(str, command))}\n{tail}")
    return done
