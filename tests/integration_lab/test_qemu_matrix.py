# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real QEMUs under every condition that decides over an engine. What is expected is the domain's, not the code's:

* QEMU up to 8.2 refuses an engine that the kernel refuses (F4a, F5); 9.0 to 10.1 accept it and fall back to threads in silence (F4b); from 10.2 on
  io_uring is refused again (F4c), native still falls back.
* ``kernel.io_uring_disabled``: 1 keeps ordinary users out, 2 everybody.
* A native node needs 1024 free events of ``fs.aio-max-nr``.
* On a file system without O_DIRECT (ramfs) no engine works with ``cache.direct=on``; without it io_uring and threads do.

Needs KATAOPS_LAB_QEMUS: a folder with static-none, static-both, dynamic-aio, firmware/ and debian13-root; newest-root (QEMU 10.2 or later in a root
folder, made like debian13-root from a newer suite) is optional, and the distribution's QEMU is used where it is Debian 12's.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu import observe as _qemu
from ansible_collections.kataops.aio.plugins.module_utils._qemu import proof as _proof
from kernel_switches import DISABLED, MAX_NR, NR
from real_qemus import FOLDER, binary_named

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="turns kernel switches and mounts: needs root")]

COLLECTION = Path(__file__).resolve().parents[2]
# The machine may be busy; no probe that works takes this long.
TIMEOUT = 60

WORKS, ABSENT = ("works", None), ("not_compiled", "not_in_build")
NO_RING, RING_FALLS = ("refused", "io_uring_refused"), ("falls_back", "io_uring_refused")
NO_EVENTS, EVENTS_FALL = ("refused", "aio_exhausted"), ("falls_back", "aio_exhausted")
NO_DIRECT = ("refused", "no_o_direct")

# binary -> (native where the kernel grants all, io_uring likewise, native without free events, io_uring switched off)
BINARIES = {
    "static-none": (ABSENT, ABSENT, ABSENT, ABSENT),
    "static-both": (WORKS, WORKS, NO_EVENTS, NO_RING),
    "dynamic-aio": (WORKS, ABSENT, NO_EVENTS, ABSENT),
    "debian12": (WORKS, WORKS, NO_EVENTS, NO_RING),
    "debian13": (WORKS, WORKS, EVENTS_FALL, RING_FALLS),
    "newest": (WORKS, WORKS, EVENTS_FALL, NO_RING),
}


@pytest.fixture
def ramfs(tmp_path):
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        # The kernel may still be at work on the QEMU that quit last.
        end = time.monotonic() + 20
        while subprocess.run(["umount", str(folder)], check=False).returncode:
            assert time.monotonic() < end, "%s is held" % folder
            time.sleep(0.05)


def observe(binary, folder, **options):
    [qemu] = _qemu.observe_qemus([binary], str(folder), **dict({"timeout": TIMEOUT}, **options))
    return qemu


def outcomes(qemu):
    assert qemu["status"] == "answered", qemu["reason"]
    return tuple((qemu["engines"][name]["outcome"], qemu["engines"][name]["cause"]) for name in ("threads", "native", "io_uring"))


@pytest.mark.parametrize("name", BINARIES)
@pytest.mark.parametrize("condition", ["nothing", "io_uring_disabled=1", "io_uring_disabled=2", "aio exhausted"])
def test_matrix(name, condition, switches, tmp_path):
    binary = binary_named(name, tmp_path)
    native, io_uring, no_events, no_ring = BINARIES[name]
    if condition == "io_uring_disabled=1":  # root is not kept out
        switches(DISABLED, 1)
    elif condition == "io_uring_disabled=2":
        switches(DISABLED, 2)
        io_uring = no_ring
    elif condition == "aio exhausted":
        switches(MAX_NR, int(NR.read_text()) + 1023)
        native = no_events
    qemu = observe(binary, tmp_path)
    assert outcomes(qemu) == (WORKS, native, io_uring)
    for engine in ("native", "io_uring"):
        found = qemu["engines"][engine]
        if found["outcome"] == "works":
            assert found["observed"] == engine
        elif found["outcome"] == "falls_back":
            assert found["observed"] == "threads"
            assert "falling back to thread pool" in found["reason"]
        assert found["usable"] is (found["outcome"] == "works")
        assert found["evidence"]
    assert list(tmp_path.iterdir()) == ([Path(binary)] if binary.startswith(str(tmp_path)) else [])


@pytest.mark.parametrize("name", BINARIES)
def test_storage_without_o_direct(name, ramfs, switches, tmp_path):
    qemu = observe(binary_named(name, tmp_path), ramfs)
    # Whether an engine is in the build is told all the same.
    native, io_uring = ((ABSENT if expected == ABSENT else NO_DIRECT) for expected in BINARIES[name][:2])
    assert outcomes(qemu) == (NO_DIRECT, native, io_uring)
    assert qemu["engines"]["threads"]["observed"] == "threads"
    if io_uring is NO_DIRECT:
        assert qemu["engines"]["io_uring"]["observed"] == "io_uring"
    if native is NO_DIRECT:
        assert qemu["engines"]["native"]["needs_direct"] is True
        assert str(ramfs) in qemu["engines"]["native"]["reason"]
    assert list(ramfs.iterdir()) == []


@pytest.mark.parametrize("name", BINARIES)
def test_strings_and_answers_agree(name, tmp_path):
    """What the ELF file says without being run is what QEMU answers."""
    binary = binary_named(name, tmp_path)
    asked = observe(binary, tmp_path)
    path = tmp_path / "staged"
    shutil.copyfile(asked["real_path"], path)
    read = observe(str(path), tmp_path)
    assert read["status"] == "not_executable"
    assert read["version"] == asked["version"]
    assert read["linkage"] == asked["linkage"]
    for engine in ("threads", "native", "io_uring"):
        assert (read["engines"][engine]["compiled"], read["engines"][engine]["compiled_by"]) == (asked["engines"][engine]["compiled"], "elf")


@contextlib.contextmanager
def public_folder():
    """A folder that an ordinary user can read and write."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chmod(folder, 0o755)
        os.chown(folder, 65534, 65534)
        patch.setattr(trust, "JUDGED_BELOW", folder)
        yield Path(folder)


def observe_as_nobody(binary, folder):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, json.dumps(observe(binary, folder)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return json.loads(answer)


@pytest.mark.parametrize(("name", "disabled", "io_uring"), [("static-both", 0, WORKS), ("static-both", 1, NO_RING), ("debian12", 1, NO_RING)])
def test_an_ordinary_user(name, disabled, io_uring, switches, tmp_path):
    binary = binary_named(name, tmp_path)
    switches(DISABLED, disabled)
    with public_folder() as folder:
        if name == "static-both":
            binary = str(shutil.copy(binary, folder / "qemu"))
        assert outcomes(observe_as_nobody(binary, folder)) == (WORKS, WORKS, io_uring)


def wrapper(tmp_path, text, name="wrapper"):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text", ['exec %s "$@" -L %s', '%s "$@" -L %s'])
def test_wrappers_are_followed(tmp_path, switches, text):
    binary = binary_named("static-both", tmp_path)
    real = os.path.realpath(binary)
    if "qemu" not in os.path.basename(real):
        real = shutil.copy(real, tmp_path / "qemu-system-x86_64")
    qemu = observe(wrapper(tmp_path, "#!/usr/bin/env bash\n" + text % (real, FOLDER / "firmware")), tmp_path)
    assert outcomes(qemu) == (WORKS, WORKS, WORKS)
    assert (qemu["kind"], qemu["real_path"]) == ("script", str(real))
    assert qemu["wrapper"]["data_dirs"] == [str(FOLDER / "firmware")]
    assert qemu["firmware"]["missing"] == []
    assert qemu["firmware"]["search_paths"][0] == str(FOLDER / "firmware")


CLOSING = """#!/usr/bin/env bash
for link in /proc/self/fd/*; do
  number=${link##*/}
  if [ "$number" -gt 2 ]; then eval "exec $number<&-"; fi
done
exec %s "$@"
"""


def test_a_wrapper_that_keeps_no_descriptors_gets_a_named_image(tmp_path, switches):
    binary = binary_named("static-both", tmp_path)
    storage = tmp_path / "storage"
    storage.mkdir()
    qemu = observe(wrapper(tmp_path, CLOSING % binary), storage)
    assert outcomes(qemu) == (WORKS, WORKS, WORKS)
    assert any(".kataops-aio-probe-" in item["asked"] for item in qemu["engines"]["native"]["evidence"])
    assert list(storage.iterdir()) == []


# A launcher that installs a seccomp filter and runs QEMU; the filter's action for one system call is given.
LAUNCHER = """#!{python}
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
program = b"".join(struct.pack("=HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, {action}), (0x06, 0, 0, 0x7FFF0000)))
code = ctypes.create_string_buffer(program)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))) == 0
os.execv({binary!r}, [{binary!r}] + sys.argv[1:])
"""
KILL, EPERM = 0x80000000, 0x00050001
IO_SETUP, IO_URING_SETUP = 206, 425


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86_64")
@pytest.mark.parametrize(
    ("name", "call", "action", "expected"),
    [
        ("static-both", IO_SETUP, EPERM, (WORKS, ("refused", "kernel_refused"), WORKS)),
        ("static-both", IO_URING_SETUP, EPERM, (WORKS, WORKS, NO_RING)),
        ("static-both", IO_SETUP, KILL, None),
        ("static-both", IO_URING_SETUP, KILL, None),
    ],
)
def test_seccomp(name, call, action, expected, switches, tmp_path):
    text = LAUNCHER.format(python=sys.executable, call=call, action=action, binary=binary_named(name, tmp_path))
    qemu = observe(wrapper(tmp_path, text), tmp_path)
    if expected:
        assert outcomes(qemu) == expected
    else:
        assert qemu["status"] == "killed"
        assert "SIGSYS" in qemu["reason"]


def with_firmware(name, tmp_path):
    """Kata's wrapper around a binary that does not know its firmware's folder."""
    binary = binary_named(name, tmp_path)
    if name in ("debian12", "debian13", "newest"):
        return binary
    if not (FOLDER / "firmware").is_dir():
        pytest.skip("no firmware/ in the folder of QEMUs")
    return wrapper(tmp_path, '#!/usr/bin/env bash\nexec %s "$@" -L %s/\n' % (binary, FOLDER / "firmware"), "with-firmware")


OK = (True, None)


def bad(cause):
    return (False, cause)


# The target is a loop device. (binary, engine) -> one outcome for each of SETTINGS.
HOT_PLUGS = {
    ("static-none", "threads"): (OK, OK, OK, OK, OK),
    ("static-none", "native"): (bad("not_in_build"),) * 5,
    ("static-none", "io_uring"): (bad("not_in_build"),) * 5,
    ("static-both", "threads"): (OK, OK, OK, OK, OK),
    ("static-both", "native"): (bad("needs_direct"), OK, bad("needs_direct"), OK, bad("needs_direct")),
    ("static-both", "io_uring"): (OK, OK, OK, OK, OK),
    ("debian12", "threads"): (OK, OK, OK, OK, OK),
    ("debian12", "native"): (bad("needs_direct"), OK, bad("needs_direct"), OK, bad("needs_direct")),
    ("debian12", "io_uring"): (OK, OK, OK, OK, OK),
    ("debian13", "native"): (bad("needs_direct"), OK, bad("needs_direct"), OK, bad("needs_direct")),
    ("debian13", "io_uring"): (OK, OK, OK, OK, OK),
    ("newest", "native"): (bad("needs_direct"), OK, bad("needs_direct"), OK, bad("needs_direct")),
    ("newest", "io_uring"): (OK, OK, OK, OK, OK),
}
SETTINGS = (("go", False, True), ("go", True, True), ("go", True, False), ("rs", False, True), ("rs", True, False))


@pytest.mark.parametrize("driver", ["virtio-blk", "virtio-scsi"])
@pytest.mark.parametrize(("name", "engine"), HOT_PLUGS)
def test_hot_plug(name, engine, driver, switches, tmp_path):
    binary = with_firmware(name, tmp_path)
    for (runtime, cache_set, cache_direct), expected in zip(SETTINGS, HOT_PLUGS[name, engine]):
        result = _proof.prove(
            binary,
            runtime=runtime,
            engine=engine,
            cache_set=cache_set,
            cache_direct=cache_direct,
            block_device_driver=driver,
            storage_path=str(tmp_path),
            timeout=TIMEOUT,
        )
        assert (result["ok"], result["cause"]) == expected, (runtime, cache_set, cache_direct, result["reason"])
        assert result["backend"] == "loop_device"
        assert result["accelerator"] in ("kvm", "tcg", "qtest")
        assert result["firmware_ok"] is True
        if result["ok"]:
            assert result["engine_observed"] == engine
            assert result["transcript"][-1]["sent"]["arguments"]["command-line"].endswith('"read -P 90 0 64k"')


@pytest.mark.parametrize(("name", "cause"), [("static-both", "io_uring_refused"), ("debian13", "falls_back"), ("newest", "io_uring_refused")])
def test_hot_plug_with_io_uring_switched_off(name, cause, switches, tmp_path):
    binary = with_firmware(name, tmp_path)
    switches(DISABLED, 2)
    result = _proof.prove(binary, engine="io_uring", storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["cause"]) == bad(cause), result["reason"]
    assert result["engine_observed"] == ("threads" if cause == "falls_back" else None)


@pytest.mark.parametrize(("name", "cause"), [("static-both", "aio_exhausted"), ("debian13", "falls_back")])
def test_hot_plug_without_free_events(name, cause, switches, tmp_path):
    binary = with_firmware(name, tmp_path)
    switches(MAX_NR, int(NR.read_text()) + 1023)
    result = _proof.prove(binary, storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["cause"]) == bad(cause), result["reason"]


# (binary, Kata's release, driver) -> outcome with Go: from 9.2 on QEMU refuses arguments of the wrong type (Kata's pull requests 10719 and 11888).
RELEASES = {
    ("static-both", "3.7.0", "virtio-blk"): OK,
    ("static-both", "3.7.0", "virtio-scsi"): OK,
    ("debian13", "3.7.0", "virtio-blk"): bad("device"),
    ("debian13", "3.7.0", "virtio-scsi"): bad("device"),
    ("debian13", "3.20.0", "virtio-blk"): bad("device"),
    ("debian13", "3.20.0", "virtio-scsi"): OK,
    ("debian13", "3.24.0", "virtio-blk"): OK,
}


@pytest.mark.parametrize(("name", "release", "driver"), RELEASES)
def test_hot_plug_by_release(name, release, driver, switches, tmp_path):
    result = _proof.prove(with_firmware(name, tmp_path), release=release, block_device_driver=driver, storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["cause"]) == RELEASES[name, release, driver], result["reason"]
    if not result["ok"]:
        assert "expect" in result["reason"]


@pytest.mark.parametrize(("release", "cause"), [("3.19.0", "setting_ignored"), ("3.20.0", "setting_ignored"), ("3.28.0", "needs_direct"), ("3.29.0", None)])
def test_native_with_runtime_rs_by_release(release, cause, switches, tmp_path):
    result = _proof.prove(with_firmware("static-both", tmp_path), runtime="rs", release=release, storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["cause"]) == (cause is None, cause), result["reason"]


def test_missing_firmware_is_told_in_qemus_words(tmp_path):
    lonely = shutil.copy(binary_named("static-both", tmp_path), tmp_path / "lonely")
    result = _proof.prove(str(lonely), storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["cause"], result["firmware_ok"]) == (False, "firmware", False)
    assert "could not load PC BIOS 'bios-256k.bin'" in result["reason"]
    assert observe(str(lonely), tmp_path)["firmware"]["missing"] == ["bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin", "efi-virtio.rom"]


def test_without_a_loop_device_a_file_stands_for_it(tmp_path, monkeypatch, switches):
    def none(fd):
        raise _proof.AioError("no loop device can be had (Operation not permitted)", where="/dev/loop-control")

    monkeypatch.setattr(_proof, "LoopDevice", none)
    result = _proof.prove(with_firmware("static-both", tmp_path), storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["backend"]) == (True, "regular_file")
    assert "instead of Kata's host_device" in result["reason"]
    result = _proof.prove(with_firmware("static-both", tmp_path), runtime="rs", storage_path=str(tmp_path), timeout=TIMEOUT)
    assert (result["ok"], result["reason"]) == (True, None)


def test_debians_sandbox_changes_nothing(tmp_path, switches):
    """The -sandbox that Kata's documentation proposes; only builds with seccomp take it."""
    result = _proof.prove(
        binary_named("debian12", tmp_path),
        storage_path=str(tmp_path),
        timeout=TIMEOUT,
        seccomp_sandbox="on,obsolete=deny,spawn=deny,resourcecontrol=deny",
    )
    assert result["ok"], result["reason"]


KILLED = """
import sys
from ansible_collections.kataops.aio.plugins.module_utils._qemu import proof as _proof
from ansible_collections.kataops.aio.plugins.module_utils._qemu import observe as _qemu
print("on", flush=True)
while True:
    _qemu.observe_qemus([sys.argv[1]], sys.argv[2], timeout=60)
    _proof.prove(sys.argv[1], storage_path=sys.argv[2], timeout=60)
"""


def processes_of(marker):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def loop_devices_over(folder):
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(str(folder)):
                found.append(path)
    return found


@pytest.mark.parametrize("text", ['exec %s "$@" -L %s\n', '%s "$@" -L %s\n'])
def test_killed_at_any_moment_nothing_is_left(tmp_path, text):
    """SIGKILL of the module at 12 random moments, with a wrapper that keeps a shell and one that does not."""
    storage = tmp_path / "storage"
    storage.mkdir()
    lonely = shutil.copy(binary_named("static-both", tmp_path), tmp_path / "qemu-lonely")
    binary = wrapper(tmp_path, "#!/bin/sh\n" + text % (lonely, FOLDER / "firmware"))
    tree = tmp_path / "tree" / "ansible_collections" / "kataops"
    tree.mkdir(parents=True)
    (tree / "aio").symlink_to(COLLECTION)
    moments = random.Random(7)
    for _turn in range(12):
        module = subprocess.Popen(
            [sys.executable, "-c", KILLED, binary, str(storage)], env=dict(os.environ, PYTHONPATH=str(tmp_path / "tree")), stdout=subprocess.PIPE
        )
        module.stdout.readline()
        time.sleep(moments.uniform(0, 0.4))
        module.send_signal(signal.SIGKILL)
        module.wait()
        module.stdout.read()  # its end: nobody holds the pipe any more
        end = time.monotonic() + 20
        while processes_of("qemu-lonely") or loop_devices_over(storage):
            assert time.monotonic() < end, "left behind: %s %s" % (processes_of("qemu-lonely"), loop_devices_over(storage))
            time.sleep(0.05)
        assert list(storage.iterdir()) == []
