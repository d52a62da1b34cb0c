# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hostile suite attacks with: programs that misbehave, and how to see what they left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

ORDINARY = 65534  # "nobody": needs no account


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
    # VmHWM, not getrusage: that one counts what the process was before exec, which is this one.
    code += "\nprint(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    began = time.monotonic()
    environment = dict(os.environ, PYTHONPATH=tree)
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    *lines, memory = done.stdout.splitlines()
    return "\n".join(lines), time.monotonic() - began, int(memory)
