# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel limits as the kernel itself enforces them: switches are really turned, and put back at once, under the lock that all such tests take."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import in_child as _bounded
from ansible_collections.kataops.aio.plugins.module_utils._host import kernel as _kernel
from ansible_collections.kataops.aio.plugins.module_utils._host import storage as _storage
from kernel_switches import DISABLED, MAX_NR

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="turns kernel switches: needs root")]


@pytest.mark.parametrize(
    ("disabled", "root", "user"),
    [(0, (True, None), (True, None)), (1, (True, None), (False, "EPERM")), (2, (False, "EPERM"), (False, "EPERM"))],
)
def test_io_uring_disabled(switches, disabled, root, user):
    """The kernel's documentation of kernel.io_uring_disabled: 0 everyone, 1 CAP_SYS_ADMIN and the group only, 2 nobody."""
    switches(DISABLED, disabled)
    uring = _kernel.observe_kernel()["io_uring"]
    assert uring["disabled"] == disabled
    assert (uring["setup_root"]["ok"], uring["setup_root"]["errno"]) == root
    assert (uring["setup_user"]["ok"], uring["setup_user"]["errno"]) == user
    assert uring["setup_user"]["evidence"][0] == {
        "asked": "io_uring_setup(1) as user 65534",
        "answered": "success" if user[0] else "EPERM (Operation not permitted)",
        "by": "syscall",
    }


@pytest.mark.parametrize(
    ("more", "contexts", "ok", "events"),
    [(0, 0, False, 1024), (1023, 0, False, 1024), (1024, 1, True, 1), (2047, 1, True, 1), (2048, 2, True, 1024), (1024 * 64, 64, True, 1024)],
)
def test_head_room_for_linux_aio(switches, more, contexts, ok, events):
    """``more`` events above those in use: 1024 of them make a context, and io_setup(2) says EAGAIN where they are not there (domain, F5)."""
    _bounded.reap_all()
    in_use = int(Path("/proc/sys/fs/aio-nr").read_text())
    switches(MAX_NR, in_use + more)
    aio = _kernel.observe_kernel()["aio"]
    if aio["nr"] != in_use:
        pytest.skip("something else on this machine took AIO contexts meanwhile")
    assert (aio["max_nr"], aio["free"], aio["contexts_free"]) == (in_use + more, more, contexts)
    for call in (aio["io_setup"], aio["io_setup_user"]):
        assert (call["ok"], call["errno"]) == (ok, None if ok else "EAGAIN")
        assert call["evidence"][0]["asked"].startswith("io_setup(%d)" % events)
    _bounded.reap_all()  # the end of the child that asked gives its events back
    assert int(Path("/proc/sys/fs/aio-nr").read_text()) == in_use


def test_a_context_of_1024_events_takes_1024_of_the_limit(switches):
    """What contexts_free rests on, asked of this kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    calls = {"x86_64": (206, 207), "aarch64": (0, 1)}[os.uname().machine]  # io_setup and io_destroy, by the kernel's tables
    before = _kernel.observe_kernel(user_probe=False)["aio"]
    context = ctypes.c_ulong(0)
    assert libc.syscall(ctypes.c_long(calls[0]), ctypes.c_uint(1024), ctypes.byref(context)) == 0, os.strerror(ctypes.get_errno())
    try:
        after = _kernel.observe_kernel(user_probe=False)["aio"]
    finally:
        libc.syscall(ctypes.c_long(calls[1]), context)
    assert after["nr"] - before["nr"] == 1024 and before["contexts_free"] - after["contexts_free"] == 1


def seccomp_that_refuses(number):
    """A filter for this process and its children: system call ``number`` gets EPERM, as container runtimes' default profiles do."""
    instructions = b"".join(
        (
            b"\x20\x00\x00\x00" + (0).to_bytes(4, "little"),  # load the number of the call
            b"\x15\x00\x00\x01" + number.to_bytes(4, "little"),  # this one?
            b"\x06\x00\x00\x00" + (0x00050000 | errno.EPERM).to_bytes(4, "little"),  # SECCOMP_RET_ERRNO
            b"\x06\x00\x00\x00" + (0x7FFF0000).to_bytes(4, "little"),  # SECCOMP_RET_ALLOW
        )
    )
    buffer = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(4, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def test_a_seccomp_filter_shows_though_the_sysctl_allows(switches):
    switches(DISABLED, 0)

    def filtered():
        seccomp_that_refuses(_kernel._IO_URING_SETUP)
        return _kernel.observe_kernel(user_probe=False)

    kernel, reason = _storage.in_child(filtered)
    assert reason is None, reason
    assert kernel["io_uring"]["disabled"] == 0
    assert (kernel["io_uring"]["setup_root"]["ok"], kernel["io_uring"]["setup_root"]["errno"]) == (False, "EPERM")
    assert kernel["aio"]["io_setup"]["ok"] is True


# --- storage ---


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system of a kind on a folder, or skips."""
    done = []

    def mount(kind, *options):
        folder = tmp_path / kind
        folder.mkdir()
        result = subprocess.run(["mount", "-t", kind, *options, kind, folder], stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            pytest.skip("no %s here: %s" % (kind, result.stderr.strip()))
        done.append(folder)
        return folder

    yield mount
    for folder in done:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_system_without_o_direct(mounted):
    """ramfs has no direct I/O in any release of Linux, and unnamed files since 6.1 only: both ways end in the same fact."""
    folder = mounted("ramfs")
    entry = _storage.observe_storage([str(folder / "images")])[0]
    assert (entry["probed"], entry["filesystem"], entry["o_direct"]) == (str(folder), "ramfs", False)
    assert "does not take O_DIRECT" in entry["reason"]
    assert entry["evidence"][0]["answered"].startswith("open: EINVAL")
    assert list(folder.iterdir()) == []


def test_a_read_only_file_system_is_not_touched(mounted):
    folder = mounted("tmpfs", "-o", "ro")
    entry = _storage.observe_storage([str(folder)])[0]
    assert (entry["filesystem"], entry["o_direct"], entry["evidence"]) == ("tmpfs", None, [])
    assert "read-only" in entry["reason"]


def test_a_real_disk_takes_o_direct():
    entry = _storage.observe_storage(["/var/tmp/kataops-aio-none"])[0]
    if entry["filesystem"] not in ("ext4", "xfs", "btrfs"):
        pytest.skip("/var/tmp is %s" % entry["filesystem"])
    assert (entry["probed"], entry["o_direct"], entry["reason"]) == ("/var/tmp", True, None)
