# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's own strings, wherever they stand in a file. Real binaries are read in tests/integration_lab/test_qemu_matrix.py."""

from __future__ import annotations

import io

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._qemu import strings as _qemu_marks
from hypothesis import given, settings
from hypothesis import strategies as st

# (strings in the file, native, io_uring)
STRINGS = [
    (
        [b"aio=native was specified, but is not supported in this build.", b"aio=io_uring was specified, but is not supported in this build."],
        False,
        False,
    ),
    ([b"failed to create linux AIO context", b"failed to init linux io_uring ring"], True, True),
    ([b"failed to create linux AIO context", b"aio=io_uring was specified, but is not available (disabled via"], True, True),
    ([b"failed to create linux AIO context", b"aio=io_uring was specified, but is not supported in this build."], True, False),
    ([], None, None),
    ([b"failed to create linux AIO context", b"aio=native was specified, but is not supported in this build."], None, None),
]


@pytest.mark.parametrize(("strings", "native", "io_uring"), STRINGS)
def test_compiled_engines_by_strings(strings, native, io_uring):
    data = bytes(5000) + b"\0".join(strings) + bytes(100)
    assert _qemu_marks.compiled_by_marks(_qemu_marks.find_marks(io.BytesIO(data))["marks"]) == {"native": native, "io_uring": io_uring}


def test_strings_over_the_border_of_two_chunks_are_found(monkeypatch):
    monkeypatch.setattr(_qemu_marks, "_CHUNK", 1000)
    text = b"QEMU emulator version 8.2.4 (kata-static)"
    for start in range(900, 1010, 7):
        data = bytes(start) + text + bytes(4000)
        found = _qemu_marks.find_marks(io.BytesIO(data))
        assert (found["version"], found["package"]) == ("8.2.4", "kata-static")


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_version_of_any_bytes(before, after):
    found = _qemu_marks.find_marks(io.BytesIO(before + b"QEMU emulator version " + after))
    assert found["version"] is None or found["version"].count(".") == 2
