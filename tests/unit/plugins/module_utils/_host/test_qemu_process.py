# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes that end when they must, with all that they started; the test image; the loop device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import child as _process
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard
from ansible_collections.kataops.aio.plugins.module_utils._host.loop import LoopDevice
from ansible_collections.kataops.aio.plugins.module_utils._qemu import image as _qemu_image


def sleepers(seconds):
    """The processes that sleep for so many seconds; a number that no other test uses tells whose they are, whatever process namespace they are in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == b"sleep\0%d\0" % seconds:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def guard():
    with Guard() as guard:
        yield guard


def test_output_words_and_status(guard):
    child = _process.Child(["/bin/sh", "-c", "cat; echo words >&2; exit 3"], guard, 20)
    child.write(b"hello\n")
    child.close_input()
    assert child.rest() == b"hello\n"
    assert child.wait() == 3
    assert child.end() == 3
    assert child.all_words() == "words\n"


def test_a_time_limit_kills_the_children_too(guard):
    child = _process.Child(["/bin/sh", "-c", "sleep 710001 & echo; wait"], guard, 1)
    assert child.read() == b"\n"
    wait_for(lambda: sleepers(710001))
    assert child.read() is None
    assert child.wait() is None
    child.end()
    wait_for(lambda: not sleepers(710001))


def test_endless_output_is_refused(guard):
    child = _process.Child(["yes"], guard, 60)
    with pytest.raises(_process.OutputTooLong):
        child.rest()
    child.end()


def test_endless_words_are_cut_and_do_not_hang(guard):
    child = _process.Child(["/bin/sh", "-c", "yes >&2"], guard, 1)
    assert child.read() is None
    child.end()
    assert len(child.all_words()) <= _process.MAX_WORDS


def test_a_child_that_does_not_read_does_not_hang_us(guard):
    child = _process.Child(["sleep", "1000"], guard, 1)
    child.write(b"x" * (1 << 20))
    child.end()


def test_what_cannot_be_run_is_an_os_error(guard):
    with pytest.raises(OSError):
        _process.Child(["/nonesuch"], guard, 5)


SCRIPT = """
import sys
from ansible_collections.kataops.aio.plugins.module_utils._host import child as _process
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard
with Guard() as guard:
    child = _process.Child(["/bin/sh", "-c", "sleep 710002 & echo; wait"], guard, 600)
    child.read()
    print("started", flush=True)
    child.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_the_module(number):
    import ansible_collections.kataops.aio as collection

    tree = next(iter(collection.__path__)).rsplit("/ansible_collections/", 1)[0]
    module = subprocess.Popen([sys.executable, "-c", SCRIPT], env=dict(os.environ, PYTHONPATH=tree), stdout=subprocess.PIPE)
    assert module.stdout.readline() == b"started\n"
    wait_for(lambda: sleepers(710002))
    module.send_signal(number)
    module.wait()
    wait_for(lambda: not sleepers(710002))
    # The guard is gone, too: it held the pipe's other end.
    assert module.stdout.read() == b""


def test_an_image_has_no_name_and_takes_bytes(tmp_path):
    with _qemu_image.Image(str(tmp_path)) as image:
        assert list(tmp_path.iterdir()) == []
        with open(image.path, "r+b") as stream:
            stream.write(b"\x5a" * _qemu_image.IO_SIZE)
        assert image.contains(0x5A)
        assert not image.contains(0x5B)


def test_a_named_image_is_swept_when_its_run_is_dead(tmp_path):
    with _qemu_image.Image(str(tmp_path)) as image:
        image.give_name()
        assert [path.name for path in tmp_path.iterdir()] == [os.path.basename(image.path)]
    assert list(tmp_path.iterdir()) == []
    old = time.time() - 3600
    names = {
        ".kataops-aio-probe-4194305-0123456789abcdef.img": False,  # that process cannot be
        ".kataops-aio-probe-%d-0123456789abcdef.img" % os.getpid(): True,
        ".kataops-aio-probe-4194305-0123456789abcdef.img.bak": True,
        "other.img": True,
    }
    for name in names:
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (old, old))
    young = tmp_path / ".kataops-aio-probe-4194305-fedcba9876543210.img"
    young.write_text("")
    _qemu_image.sweep(str(tmp_path))
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert young.exists()


def test_a_folder_that_takes_no_file_is_told():
    with pytest.raises(AioError, match="no test image can be made here"):
        _qemu_image.Image("/proc/self")


def test_the_nearest_existing_folder(tmp_path):
    assert _qemu_image.storage_folder(str(tmp_path / "a" / "b")) == str(tmp_path)
    assert os.path.isdir(_qemu_image.storage_folder(None))
    with pytest.raises(AioError, match="not absolute"):
        _qemu_image.storage_folder("images")


def test_a_loop_device_reads_and_is_released(tmp_path):
    with _qemu_image.Image(str(tmp_path)) as image:
        try:
            device = LoopDevice(image.fd)
        except AioError as exc:
            pytest.skip(str(exc))
        name = os.path.basename(device.path)
        with device:
            with open(device.path, "r+b") as stream:
                stream.write(b"\x21" * _qemu_image.IO_SIZE)
                stream.flush()
                os.fsync(stream.fileno())
            assert image.contains(0x21)
        wait_for(lambda: not Path("/sys/block/%s/loop/backing_file" % name).exists())
