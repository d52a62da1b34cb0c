# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hostile suite plays with: folders and processes of an ordinary user, programs that misbehave.

``--hypothesis-profile=hunt`` searches new inputs for each property, KATAOPS_HUNT of them (2000 by default); otherwise the same some hundred each time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ORDINARY = 65534  # "nobody": needs no account
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

settings.register_profile("hunt", deadline=None, max_examples=int(os.environ.get("KATAOPS_HUNT", "2000")), suppress_health_check=SLOW)
settings.register_profile(
    "kataops", deadline=None, derandomize=True, max_examples=20 if "KATAOPS_FEW_EXAMPLES" in os.environ else 150, suppress_health_check=SLOW
)
settings.load_profile("kataops")


@pytest.fixture
def as_root():
    """The attacks are on a module that runs as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can play root and an ordinary user")


@pytest.fixture
def theirs(as_root):
    """A folder of the ordinary user that everyone can reach."""
    folder = Path(tempfile.mkdtemp(prefix="kataops-hostile-"))
    os.chown(folder, ORDINARY, ORDINARY)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ours(as_root):
    """A folder of root's, reached through folders of root's only."""
    folder = Path(tempfile.mkdtemp(prefix="kataops-hostile-", dir="/root" if os.path.isdir("/root") else "/"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def program(path, text, uid=0, mode=0o755):
    """A program with an owner."""
    path = Path(path)
    path.write_text(text, encoding="utf-8")
    os.chown(path, uid, uid)
    path.chmod(mode)
    return str(path)


def sleepers(seconds):
    """The living processes that sleep for so many seconds: the number tells whose they are, whatever process namespace they are in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"%d" % seconds in words and words[0].endswith(b"sleep"):
                found.append(int(folder.name))
    return found


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alone(code, *arguments, seconds=60):
    """Run Python code with the collection in a process of its own; returns (its output, seconds, the most memory it had in MiB)."""
    import ansible_collections.kataops.aio as collection

    tree = next(iter(collection.__path__)).rsplit("/ansible_collections/", 1)[0]
    code += "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    began = time.monotonic()
    environment = dict(os.environ, PYTHONPATH=tree)
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    *lines, memory = done.stdout.splitlines()
    return "\n".join(lines), time.monotonic() - began, int(memory)
