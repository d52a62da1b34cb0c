# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limits, the sysctl files and the storage probe: on this machine's real kernel, and the parsers on anything."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import in_child as _bounded
from ansible_collections.kataops.aio.plugins.module_utils._host import kernel as _kernel
from ansible_collections.kataops.aio.plugins.module_utils._host import storage as _storage
from ansible_collections.kataops.aio.plugins.module_utils._host import sysctl as _sysctl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MOUNTINFO = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw
36 35 98:0 /mnt1 /var/lib/con\\040tainerd rw,noatime master:1 propagate_from:2 - xfs /dev/mapper/a\\134b rw
40 27 0:40 / /srv rw - tmpfs tmpfs rw
41 40 0:41 / /srv rw - btrfs /dev/vdb rw,subvol=/x
"""
SYSCTL = b"# comment\n; comment\n fs.aio-max-nr = 65536\n-fs/aio-max-nr=1048576\nnot a setting\nkernel.io_uring_disabled=2\n=\n"

mutations = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40), st.binary(max_size=40)), max_size=6)


def mutate(sample, changes):
    """``sample`` with pieces cut out and random bytes put in."""
    for position, cut, new in changes:
        at = position % (len(sample) + 1)
        sample = sample[:at] + new + sample[at + cut :]
    return sample


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"65536\n", 65536),
        (b"0", 0),
        (b" -1\n", -1),
        (b"", None),
        (b"-", None),
        (b"--1", None),
        (b"1 2", None),
        (b"0x10", None),
        (b"9" * 21, None),
        ("٣".encode(), None),
        (b"18446744073709551615", 18446744073709551615),
    ],
)
def test_a_sysctl_holds_one_number_or_nothing(raw, number):
    assert _kernel.parse_number(raw) == number


def test_unreadable_sysctls_are_none_with_a_reason(tmp_path):
    assert _kernel.read_number(str(tmp_path / "none")) == (None, "%s/none: No such file or directory." % tmp_path, [])
    (tmp_path / "odd").write_bytes(b"many\xff\n")
    value, reason, evidence = _kernel.read_number(str(tmp_path / "odd"))
    assert value is None and "holds no number but" in reason
    assert evidence == [{"asked": "%s/odd" % tmp_path, "answered": "many\\xff", "by": "file"}]


def test_the_kernel_of_this_machine_is_described_by_its_own_files():
    before = int(Path("/proc/sys/fs/aio-max-nr").read_text())
    kernel = _kernel.observe_kernel()
    aio, uring = kernel["aio"], kernel["io_uring"]
    assert kernel["release"] == os.uname().release
    if int(Path("/proc/sys/fs/aio-max-nr").read_text()) == before:  # else another test has just changed it
        assert aio["max_nr"] == before
    assert aio["free"] == max(0, aio["max_nr"] - aio["nr"])
    assert aio["contexts_free"] == aio["free"] // 1024
    for call in (aio["io_setup"], aio["io_setup_user"], uring["setup_root"], uring["setup_user"]):
        assert (call["ok"] is True) == (call["reason"] is None)
        assert call["ok"] is None or call["evidence"][0]["by"] == "syscall"
    if os.geteuid() == 0:
        assert aio["io_setup_user"]["evidence"][0]["asked"].endswith("as user 65534")


def test_nothing_stays_reserved_or_open():
    """The contexts are given back: ten observations of 1024 events each leave no trace in this process."""
    _kernel.observe_kernel()
    descriptors, before = os.listdir("/proc/self/fd"), children()
    for _turn in range(10):
        _kernel.observe_kernel()
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    assert "[aio]" not in Path("/proc/self/maps").read_text()
    _bounded.reap_all()
    assert children() <= before


def test_the_user_probe_can_be_left_out():
    kernel = _kernel.observe_kernel(user_probe=False)
    for call in (kernel["aio"]["io_setup_user"], kernel["io_uring"]["setup_user"]):
        assert call["ok"] is None and "user_probe" in call["reason"]


def test_an_unknown_architecture_is_no_guess(monkeypatch):
    monkeypatch.setattr(_kernel.platform, "machine", lambda: "mips64")
    call = _kernel.observe_kernel()["aio"]["io_setup"]
    assert call["ok"] is None and "mips64" in call["reason"]


def test_a_refusal_keeps_the_kernels_name_for_it(monkeypatch):
    monkeypatch.setattr(_kernel, "_syscall", lambda *arguments: (-1, errno.EPERM))
    call = _kernel._io_uring_setup()
    assert call == {
        "ok": False,
        "errno": "EPERM",
        "reason": "io_uring_setup(1): EPERM (Operation not permitted).",
        "evidence": [{"asked": "io_uring_setup(1)", "answered": "EPERM (Operation not permitted)", "by": "syscall"}],
    }


@pytest.mark.parametrize(("free", "asked"), [(0, 1024), (1023, 1024), (1024, 1), (2047, 1), (2048, 1024)])
def test_the_last_context_is_not_taken_from_a_starting_sandbox(monkeypatch, free, asked):
    values = {_kernel._AIO_MAX_NR: free, _kernel._AIO_NR: 0}
    monkeypatch.setattr(_kernel, "read_number", lambda path: _kernel.Number(values.get(path), None, []))
    monkeypatch.setattr(_kernel, "_io_setup", lambda events: _kernel._unknown("asked for %d" % events))
    kernel = _kernel.observe_kernel()
    for call in ("io_setup", "io_setup_user"):
        assert kernel["aio"][call]["reason"] == "asked for %d" % asked


# --- a child that hangs, dies or fails ---


def children():
    """The processes that this one has to reap, those of other tests too."""
    return set(Path("/proc/self/task/%d/children" % os.getpid()).read_text(encoding="ascii").split())


def test_a_child_that_hangs_is_killed_in_time():
    started, before = time.monotonic(), children()
    result, reason = _bounded.in_child(lambda: time.sleep(60), seconds=0.3)
    assert result is None and "no answer" in reason
    assert time.monotonic() - started < 10
    assert children() <= before


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: os._exit(3), "ended without an answer"),
        (lambda: os.kill(os.getpid(), 9), "ended without an answer"),
        (lambda: os.open("/nonexistent", os.O_RDONLY), "No such file or directory"),
        (lambda: {}["key"], "KeyError"),
    ],
)
def test_a_child_that_fails_says_why(function, said):
    result, reason = _bounded.in_child(function)
    assert result is None and said in reason


# --- sysctl files ---


@pytest.fixture
def sysctls(tmp_path):
    """Writes sysctl files below a root: {path: text}; returns the function that reads them."""

    def write(files):
        for path, text in files.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("->"):
                target.symlink_to(text[2:])
            else:
                target.write_text(text)
        return _sysctl.boot_settings("fs.aio-max-nr", root=str(tmp_path))

    return write


@pytest.mark.parametrize(
    ("files", "value", "order"),
    [
        ({}, None, []),
        ({"/etc/sysctl.d/60-kataops-aio.conf": "fs.aio-max-nr = 1048576\n"}, 1048576, ["/etc/sysctl.d/60-kataops-aio.conf"]),
        # The base name decides, not the folder.
        (
            {"/usr/lib/sysctl.d/90-db.conf": "fs.aio-max-nr=65536\n", "/etc/sysctl.d/60-a.conf": "fs.aio-max-nr=1\n"},
            65536,
            ["/etc/sysctl.d/60-a.conf", "/usr/lib/sysctl.d/90-db.conf"],
        ),
        # /etc hides the same name in /usr/lib; so does a link to /dev/null.
        ({"/usr/lib/sysctl.d/90-db.conf": "fs.aio-max-nr=65536\n", "/etc/sysctl.d/90-db.conf": "vm.swappiness=1\n"}, None, []),
        ({"/usr/lib/sysctl.d/90-db.conf": "fs.aio-max-nr=65536\n", "/etc/sysctl.d/90-db.conf": "->/dev/null"}, None, []),
        ({"/etc/sysctl.d/90-db.conf.bak": "fs.aio-max-nr=65536\n"}, None, []),
        ({"/etc/sysctl.d/90-a.conf": "#fs.aio-max-nr=1\n;fs.aio-max-nr=2\nfs.aio-max-nr=3\n-fs/aio-max-nr = 4\n"}, 4, ["/etc/sysctl.d/90-a.conf"]),
        # sysctl.conf is read last, and once though it is linked.
        ({"/etc/sysctl.conf": "fs.aio-max-nr=5\n", "/etc/sysctl.d/99-sysctl.conf": "->../sysctl.conf"}, 5, ["/etc/sysctl.conf"]),
        ({"/etc/sysctl.d/90-a.conf": "fs.aio-max-nr=lots\n"}, None, ["/etc/sysctl.d/90-a.conf"]),
        ({"/etc/sysctl.d/90-a.conf": "->missing.conf"}, None, []),
    ],
)
def test_who_sets_the_limit_at_boot(sysctls, files, value, order):
    boot = sysctls(files)
    assert (boot["value"], [entry["path"] for entry in boot["files"]], boot["reason"]) == (value, order, None)


# --- storage ---


def test_nearest_folder(tmp_path):
    assert _storage.nearest_folder(str(tmp_path / "a" / "b" / "..")) == str(tmp_path)
    assert _storage.nearest_folder(str(tmp_path)) == str(tmp_path)
    (tmp_path / "file").write_text("")
    assert _storage.nearest_folder(str(tmp_path / "file")) is None
    assert _storage.nearest_folder("/") == "/"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/etc", "ext4"), ("/proc/1", "proc"), ("/process", "ext4"), ("/var/lib/con tainerd/x", "xfs"), ("/srv/deep/er", "btrfs")],
)
def test_the_longest_and_last_mount_holds_a_path(path, kind):
    assert _storage.filesystem_of(path, _storage.parse_mountinfo(MOUNTINFO)) == kind


def test_the_probe_leaves_nothing_and_says_what_it_saw(tmp_path):
    path = tmp_path / "images" / "deep"
    entry = _storage.observe_storage([str(path)])[0]
    assert (entry["path"], entry["probed"]) == (str(path), str(tmp_path))
    shown = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert entry["filesystem"] == {"ext2/ext3": "ext4"}.get(shown, shown)
    assert (entry["o_direct"] is True) == (entry["reason"] is None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_unnamed_files_gets_a_named_one_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # what an old kernel sees: EISDIR
    entry = _storage._probe(str(tmp_path))
    assert entry["o_direct"] is True, entry
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", [False, True])
def test_a_refusal_of_o_direct_is_a_fact_and_leaves_nothing(tmp_path, monkeypatch, named):
    """The kernel creates a named file before it refuses O_DIRECT, so the refusal must not leave it behind."""
    real = os.open

    def refusing(path, flags, *rest, **more):
        if named and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no unnamed files")
        if flags & os.O_DIRECT:
            if flags & os.O_CREAT:
                os.close(real(path, flags & ~os.O_DIRECT, *rest, **more))
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    entry = _storage._probe(str(tmp_path))
    assert entry["o_direct"] is False
    assert "does not take O_DIRECT" in entry["reason"] and "EINVAL" in entry["evidence"][0]["answered"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_file_system_says_nothing_of_o_direct(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwritev", lambda *arguments: (turn for turn in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    entry = _storage._probe(str(tmp_path))
    assert entry["o_direct"] is None and "ENOSPC" in entry["reason"]


def test_paths_that_are_no_folders(tmp_path):
    (tmp_path / "file").write_text("")
    relative, file = _storage.observe_storage(["images", str(tmp_path / "file")])
    assert relative["o_direct"] is None and "absolute" in relative["reason"]
    assert file["o_direct"] is None and "not a folder" in file["reason"]


def test_a_dead_file_system_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(_storage, "_probe", lambda path: time.sleep(60))
    monkeypatch.setattr(_bounded, "CHILD_SECONDS", 0.3)
    monkeypatch.setattr(_storage, "in_child", lambda function: _bounded.in_child(function, 0.3))
    entry = _storage.observe_storage(["/nfs"])[0]
    assert entry["o_direct"] is None and "no answer" in entry["reason"]


# --- anything at all ---


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=st.sampled_from((MOUNTINFO, SYSCTL, b"65536\n", b"")), changes=mutations)
def test_the_parsers_take_anything(sample, changes):
    raw = mutate(sample, changes)
    number = _kernel.parse_number(raw)
    assert number is None or isinstance(number, int)
    for point, kind in _storage.parse_mountinfo(raw):
        assert isinstance(point, str) and isinstance(kind, str)
    _storage.filesystem_of("/srv", _storage.parse_mountinfo(raw))
    for key, value in _sysctl.parse(raw):
        assert isinstance(key, str) and isinstance(value, str)
        assert _sysctl._number(value) is None or isinstance(_sysctl._number(value), int)


def test_a_huge_mountinfo_takes_bounded_time_and_memory():
    raw = MOUNTINFO * 40000  # 11 MB, 200,000 mounts
    before = resource.getrusage(resource.RUSAGE_SELF)
    mounts = _storage.parse_mountinfo(raw)
    assert _storage.filesystem_of("/srv/x", mounts) == "btrfs"
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 10 and sys.getsizeof(mounts) < 64 << 20


def test_kvm_is_what_opening_it_says_here():
    """The machine may or may not have it; what is said is what the kernel says."""
    told = _kernel.observe_kernel()["kvm"]
    try:
        with open("/dev/kvm", "r+b", buffering=0):
            opened = True
    except OSError:
        opened = False
    assert (told["usable"] is True) is opened
    assert told["evidence"][0]["asked"] == "open /dev/kvm"
    if opened:
        assert told["evidence"][1] == {"asked": "KVM_GET_API_VERSION", "answered": "12", "by": "syscall"}


@pytest.mark.parametrize("kind", ["missing", "device", "file", "folder"])
def test_what_is_not_kvm_is_not_usable(tmp_path, monkeypatch, kind):
    """/dev/null opens, and does not answer as KVM does."""
    place = {"missing": tmp_path / "kvm", "device": Path("/dev/null"), "file": tmp_path / "f", "folder": tmp_path}[kind]
    if kind == "file":
        place.write_text("")
    monkeypatch.setattr(_kernel, "_KVM", str(place))
    told = _kernel._kvm()
    assert told["usable"] is False
    assert str(place) in told["reason"]
