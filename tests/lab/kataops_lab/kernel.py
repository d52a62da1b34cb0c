# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's AIO switches. A disposable host has its own files, but shares the machine's kernel: what a repair sets there is set for
the whole machine. So they are recorded before the first host starts and put back when the last one is gone."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

from .places import LOCKS, locked
from .shell import LabError, say

SWITCHES = ("fs.aio-max-nr", "kernel.io_uring_disabled")
# Gone after a reboot, as the values themselves are
RECORD = Path("/run/kataops-aio-lab/kernel.json")
# Whoever turns a switch holds this; tests that turn them for a moment do so too
LOCK = LOCKS / "kataops-aio-kernel.lock"
HELD = "KATAOPS_KERNEL_LOCK_HELD"


@contextmanager
def exclusive():
    """The switches belong to this process and its children for the time of the block."""
    if HELD in os.environ:
        yield
        return
    with locked(LOCK):
        os.environ[HELD] = str(os.getpid())
        try:
            yield
        finally:
            del os.environ[HELD]


def path_of(switch):
    return Path("/proc/sys") / switch.replace(".", "/")


def read():
    """Values now; a switch that this kernel lacks is left out."""
    return {switch: path_of(switch).read_text().strip() for switch in SWITCHES if path_of(switch).exists()}


def record():
    """Keeps the values of now, unless a record stands already."""
    if RECORD.exists():
        return
    with exclusive():
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        part = RECORD.with_suffix(".part")
        part.write_text(json.dumps(read()))
        part.rename(RECORD)


def recorded():
    """The values before the first host, or None."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else None


def restore(forget):
    """Puts the recorded values back, and drops the record when `forget`."""
    if (values := recorded()) is None:
        return
    with exclusive():
        for switch, value in read().items():
            if switch in values and values[switch] != value:
                try:
                    path_of(switch).write_text(values[switch])
                except OSError as error:
                    raise LabError(f"cannot put {switch} back from {value} to {values[switch]}: {error}") from error
                say(f"{switch}: put back from {value} to {values[switch]} (it is the machine's kernel, not the host's)")
        if forget:
            RECORD.unlink(missing_ok=True)
