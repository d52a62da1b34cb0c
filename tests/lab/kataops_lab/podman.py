# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman with the lab's own settings."""

from __future__ import annotations

import os
import subprocess

from .places import LAB
from .shell import LabError, run

ENVIRONMENT = {**os.environ, "CONTAINERS_CONF": str(LAB / "containers.conf")}


def podman(*arguments, stdin=None, stdin_from=None, check=True, timeout=300):
    """Runs podman; `stdin` is text or bytes, `stdin_from` an open stream."""
    if stdin_from is None:
        return run("podman", *arguments, stdin=stdin, check=check, timeout=timeout, env=ENVIRONMENT)
    done = subprocess.run(["podman", *arguments], stdin=stdin_from, capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise LabError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
    return done
