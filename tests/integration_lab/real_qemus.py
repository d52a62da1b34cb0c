# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real QEMUs that the lab made (KATAOPS_LAB_QEMUS), by name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("KATAOPS_LAB_QEMUS", "/nonexistent"))
DISTRIBUTION = Path("/usr/bin/qemu-system-x86_64")


def root_wrapper(tmp_path, root):
    """A wrapper that runs a root folder's QEMU with that root's own loader and libraries."""
    loader = next((root / name / "ld-linux-x86-64.so.2" for name in ("lib64", "usr/lib64") if (root / name / "ld-linux-x86-64.so.2").exists()), None)
    if loader is None:
        pytest.skip("no QEMU in %s: set KATAOPS_LAB_QEMUS to a folder that holds %s" % (root, root.name))
    libraries = ":".join(str(root / "usr/lib/x86_64-linux-gnu" / name) for name in ("", "pulseaudio"))
    wrapper = tmp_path / "qemu-in-root"
    wrapper.write_text('#!/bin/sh\nexec %s --library-path %s %s "$@" -L %s\n' % (loader, libraries, root / "usr/bin/qemu-system-x86_64", FOLDER / "firmware"))
    wrapper.chmod(0o755)
    return wrapper


def binary_named(name, tmp_path):
    if name in ("debian13", "newest"):
        return str(root_wrapper(tmp_path, FOLDER / ("%s-root" % name)))
    path = DISTRIBUTION if name == "debian12" else FOLDER / name
    if not os.access(path, os.X_OK):
        pytest.skip("no QEMU %r: set KATAOPS_LAB_QEMUS to a folder that holds it" % name)
    if name == "debian12":
        words = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if "version 7.2." not in words:
            pytest.skip("the distribution's QEMU is not Debian 12's: %s" % words.splitlines()[:1])
    return str(path)
