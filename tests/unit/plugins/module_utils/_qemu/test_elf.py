# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ELF reader, on real ELF files (this machine's and freshly compiled ones) and on thousands of damaged ones."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu import elf as _elf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REAL = os.path.realpath("/bin/true")
DATA = Path(REAL).read_bytes()

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make fixtures with")


def compiled(tmp_path, *flags, code="int main(void) { return 0; }\n"):
    source = tmp_path / "t.c"
    source.write_text(code)
    target = tmp_path / "t"
    done = subprocess.run(["gcc", "-o", str(target), str(source), *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("gcc cannot link this here: %s" % done.stderr.strip()[-200:])
    return target


def read(path):
    with open(path, "rb") as stream:
        return _elf.read_elf(stream, str(path))


def readelf_needed(path):
    """An independent oracle."""
    out = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    return [line.split("[")[1].split("]")[0] for line in out.splitlines() if "(NEEDED)" in line]


def test_a_system_binary_is_read():
    elf = read(REAL)
    assert elf.architecture == os.uname().machine
    assert elf.linkage == "dynamic"
    assert any(name.startswith("libc.") for name in elf.needed)
    assert elf.interpreter.startswith("/lib")


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf to compare with")
@pytest.mark.parametrize("path", [REAL, os.path.realpath(sys.executable), "/usr/bin/qemu-system-x86_64", "/bin/bash"])
def test_needed_libraries_are_those_of_readelf(path):
    if not os.path.exists(path):
        pytest.skip("%s is not here" % path)
    assert read(path).needed == readelf_needed(path)


@needs_gcc
def test_dynamic_static_and_static_pie(tmp_path):
    assert read(compiled(tmp_path)).linkage == "dynamic"
    for flag in ("-static", "-static-pie"):
        elf = read(compiled(tmp_path, flag))
        assert (elf.linkage, elf.needed, elf.interpreter) == ("static", [], None)


@needs_gcc
def test_needed_libaio_is_seen(tmp_path):
    code = "#include <libaio.h>\nint main(void) { io_context_t c = 0; return io_setup(1, &c); }\n"
    target = compiled(tmp_path, "-laio", code=code)
    assert any(name.startswith("libaio.so.1") for name in read(target).needed)


@pytest.mark.parametrize(("machine", "name"), [(183, "aarch64"), (22, "machine-22"), (243, "riscv64"), (9999, "machine-9999")])
def test_the_architecture_is_told_and_foreign(machine, name):
    data = bytearray(DATA)
    data[18:20] = machine.to_bytes(2, "little")
    elf = _elf.read_elf(io.BytesIO(bytes(data)))
    assert elf.architecture == name
    assert _elf.foreign(elf.architecture, "x86_64")


def test_what_a_kernel_runs_besides_its_own():
    assert not _elf.foreign("i686", "x86_64")
    assert not _elf.foreign("x86_64", "x86_64")
    assert _elf.foreign("x86_64", "i686")


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"#!/bin/sh\n", b"\x7fELF" + bytes(12), DATA[:40], DATA[:100]])
def test_no_elf_is_one_clear_error(data):
    with pytest.raises(AioError, match="not a whole ELF file"):
        _elf.read_elf(io.BytesIO(data), "/x")


class Counting(io.BytesIO):
    """Notes the most that was ever asked for, and the whole."""

    largest = total = 0

    def read(self, size=-1):
        assert size is not None
        assert size >= 0
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        self.total += len(data)
        return data


_OFFSETS = st.one_of(st.integers(0, 1023), st.integers(0, len(DATA) - 1))


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(_OFFSETS, st.integers(0, 255)), max_size=12),
    st.one_of(st.none(), st.integers(0, len(DATA))),
)
def test_a_damaged_file_is_read_or_refused_and_no_more(changes, length):
    data = bytearray(DATA)
    for offset, value in changes:
        data[offset] = value
    stream = Counting(bytes(data[:length]))
    started = time.process_time()
    try:
        elf = _elf.read_elf(stream, "/x")
    except AioError as exc:
        assert "ELF" in str(exc)
    else:
        assert elf.linkage in ("static", "dynamic")
        assert len(elf.needed) <= 512
    assert time.process_time() - started < 5
    assert stream.largest <= 1024 * 1024
    assert stream.total <= 8 * 1024 * 1024
