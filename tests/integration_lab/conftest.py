# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several of the tests on the lab need."""

from __future__ import annotations

import fcntl

import pytest
from kernel_switches import DISABLED, LOCK, MAX_NR, NR


@pytest.fixture
def switches():
    """Sets a switch of the kernel; first all engines are allowed, at the end everything is put back. The whole machine's, so only for moments."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(LOCK, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {path: path.read_text() for path in (MAX_NR, DISABLED) if path.exists()}

        def turn(path, value):
            if path not in before:
                pytest.skip("this kernel has no %s" % path)
            try:
                path.write_text("%d\n" % value)
            except OSError as error:
                pytest.skip("%s can't be written here: %s" % (path, error.strerror))

        try:
            if DISABLED in before:
                turn(DISABLED, 0)
            # Others may hold events.
            turn(MAX_NR, int(NR.read_text()) + 65536)
            yield turn
        finally:
            for path, value in before.items():
                if path.read_text() != value:
                    path.write_text(value)


@pytest.fixture(autouse=True)
def hosts_below_the_temporary_folder(tmp_path_factory, monkeypatch):
    """Tests play hosts in pytest's folder, which lies below a folder that everyone writes; what is above it is not judged."""
    from ansible_collections.kataops.aio.plugins.module_utils._host import trust

    monkeypatch.setattr(trust, "JUDGED_BELOW", str(tmp_path_factory.getbasetemp()))
