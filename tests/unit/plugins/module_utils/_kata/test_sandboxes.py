# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running sandboxes as /proc shows them. The contents below were read off real processes (QEMU 7.2.22 and 11.1.2 on Linux 6.18) or have the form
that Kata's sources give; what real QEMU processes show is tested in tests/integration_lab/test_sandboxes.py."""

from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._kata import sandbox_process as _sandbox_process
from ansible_collections.kataops.aio.plugins.module_utils._kata import sandboxes as _sandboxes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ID = "4f1c9d0a7be24cf0a6c6b7a2f0d1e3c5"

# As the Go runtime starts QEMU (release 3.x, without debugging), shortened where nothing hangs on it
GO = [
    "/opt/kata/bin/qemu-system-x86_64",
    *("-name", "sandbox-" + ID),
    *("-uuid", "e62392aa-df4d-4482-b269-622a8d89fc51"),
    *("-machine", "q35,accel=kvm,nvdimm=on"),
    *("-qmp", "unix:fd=3,server=on,wait=off"),
    *("-m", "2048M,slots=10,maxmem=32768M"),
    *("-device", "pci-bridge,bus=pcie.0,id=pci-bridge-0,chassis_nr=1,shpc=off,addr=2"),
    *("-device", "nvdimm,id=nv0,memdev=mem0,unarmed=on"),
    *("-object", "memory-backend-file,id=mem0,mem-path=/opt/kata/share/kata-containers/kata.img,size=268435456,readonly=on"),
    *("-object", "memory-backend-memfd,id=dimm1,size=2048M,share=on"),
    *("-chardev", "socket,id=charconsole0,path=/run/vc/vm/" + ID + "/console.sock,server=on,wait=off"),
    *("-object", "iothread,id=iothread0"),
    "--no-reboot",
    *("-append", "root=/dev/pmem0p1 ro systemd.unit=kata-containers.target agent.log=debug"),
    *("-pidfile", "/run/vc/vm/" + ID + "/pid"),
]
GO_IMAGE_DRIVE = ["-drive", "id=image-f15d,file=/opt/kata/share/kata-containers/kata.img,aio=threads,format=raw,if=none,readonly=on"]
# As runtime-rs does (no -uuid; the socket is a descriptor or a relative name)
RS = [
    "/opt/kata/bin/qemu-system-x86_64",
    *("-name", "sandbox-" + ID),
    *("-qmp", "unix:fd=28,server=on,wait=off"),
    "-blockdev",
    '{"driver":"raw","node-name":"image","file":{"driver":"file","filename":"/opt/kata/share/kata.img","aio":"threads","cache":{"direct":true}}}',
]

NATIVE_MAPS = b"""\
55d5c0a00000-55d5c0e00000 r--p 00000000 fe:00 131090                     /usr/bin/qemu-system-x86_64
7f1a9c021000-7f1aa0000000 ---p 00000000 00:00 0 
7f1ab61d5000-7f1ab61f6000 rw-s 00000000 00:0d 59403                      /[aio] (deleted)
7f1ab6200000-7f1ab6221000 rw-s 00000000 00:0d 59404                      /[aio] (deleted)
7f1ab7000000-7f1ab7001000 r--s 00000000 fe:00 99                         /var/log/x[aio] (deleted) y
7ffd3a5f3000-7ffd3a614000 rw-p 00000000 00:00 0                          [stack]
"""  # noqa: W291
LOOP_RING = b"pos:\t0\nflags:\t02000002\nSqMask:\t0x7f\nPollList:\n  op=6, task_works=0\n  op=6, task_works=1\nCqOverflowList:\nNAPI:\tdisabled\n"
BLOCK_RING = b"pos:\t0\nflags:\t02000002\nSqMask:\t0x7f\nUserFiles:\t0\nPollList:\nCqOverflowList:\nNAPI:\tdisabled\n"
STAT = b"4242 (qemu) (x) y) S 1 4242 4242 0 -1 4194560 2113 0 0 0 8 3 0 0 20 0 5 0 181033 1234567 5000 18446744073709551615 1 1 0 0\n"
STATUS = b"Name:\tqemu-system-x86\nUmask:\t0022\nUid:\t0\t1001\t0\t0\nGid:\t0\t0\t0\t0\n"


class Proc:
    """A /proc below a temporary folder."""

    def __init__(self, root):
        self.root = root
        (root / "sys/fs").mkdir(parents=True)
        (root / "sys/fs/aio-nr").write_text("1024\n")
        (root / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")

    def process(self, pid, argv, binary, descriptors=(), *, maps=b"", rings=BLOCK_RING):
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(part) + b"\0" for part in argv))
        (folder / "stat").write_bytes(STAT)
        (folder / "status").write_bytes(STATUS)
        (folder / "maps").write_bytes(maps)
        (folder / "exe").symlink_to(binary)
        (folder / "root").symlink_to("/")
        for number, (link, flags) in enumerate(descriptors, 3):
            (folder / "fd" / str(number)).symlink_to(link)
            info = rings if link == "anon_inode:[io_uring]" else b"pos:\t0\nflags:\t0%o\nmnt_id:\t1\n" % flags
            (folder / "fdinfo" / str(number)).write_bytes(info)
        return folder

    def observe(self):
        return _sandboxes.observe_sandboxes(str(self.root))


@pytest.fixture
def proc(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(_sandbox_process, "_NO_DISKS", tuple(path for path in _sandbox_process._NO_DISKS if not str(tmp_path).startswith(path)))
    (tmp_path / "proc").mkdir()
    return Proc(tmp_path / "proc")


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "qemu-system-x86_64"
    path.write_text("a binary")
    return str(path)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.img"
    path.write_text("")
    return str(path)


RING = ("anon_inode:[io_uring]", 0)
DIRECT = os.O_RDWR | os.O_DIRECT


@pytest.mark.parametrize(
    ("disks", "rings", "ring", "maps", "observed", "counted"),
    [
        ("hot", 0, None, b"", ["threads"], "threads"),
        ("hot", 0, None, NATIVE_MAPS, ["native"], "native"),
        ("hot", 1, BLOCK_RING, b"", ["io_uring"], "io_uring"),
        ("hot", 1, BLOCK_RING, NATIVE_MAPS, ["native", "io_uring"], "native"),
        (None, 0, None, b"", [], "none_open"),
        ("cold", 0, None, b"", [], "none_open"),
        # Rings for events say nothing of the block engine ...
        ("hot", 3, LOOP_RING, b"", None, "unknown"),
        (None, 3, LOOP_RING, b"", [], "none_open"),
        # ... but native still shows beside them.
        ("hot", 3, LOOP_RING, NATIVE_MAPS, ["native"], "native"),
        # A ring whose fdinfo has no list of polls (an old kernel) can't be judged.
        ("hot", 1, b"pos:\t0\nflags:\t02000002\n", b"", None, "unknown"),
        # QEMU before 10.2 has a ring for a moment while it starts.
        (None, 1, BLOCK_RING, b"", [], "none_open"),
    ],
)
def test_the_engine_is_what_the_kernel_shows(proc, binary, disk, disks, rings, ring, maps, observed, counted):  # noqa: PLR0917
    argv = [binary, *GO[1:]]
    if disks == "cold":
        argv += ["-drive", "id=d,file=%s,aio=threads,format=raw,if=none" % disk]
    descriptors = [(disk, DIRECT)] * (disks is not None) + [RING] * rings
    proc.process(77, argv, binary, descriptors, maps=maps, rings=ring or BLOCK_RING)
    result = proc.observe()
    process = result["processes"][0]
    assert process["observed"] == observed
    assert (process["reason"] is not None) == (observed is None)
    assert process["io_uring_rings"] == rings
    assert process["aio_contexts"] == (2 if maps else 0)
    assert result["by_engine"][counted] == 1 and result["total"] == 1
    assert process["block_devices_open"] == ([{"path": disk, "kind": "file", "plugged": disks, "direct": True}] if disks else [])


def test_every_key_of_a_sandbox(proc, binary):
    proc.process(77, [binary, *GO[1:]], binary)
    assert proc.observe() == {
        "total": 1,
        "by_engine": {"native": 0, "threads": 0, "io_uring": 0, "none_open": 1, "unknown": 0},
        "aio_contexts": 0,
        "processes": [
            {
                "pid": 77,
                "sandbox_id": ID,
                "known_by": ["name", "run_folder", "qmp_socket", "guest_target"],
                "uid": 1001,
                "started": 1700000000 + 181033 // os.sysconf("SC_CLK_TCK"),
                "binary": binary,
                "binary_state": "current",
                "asked": [],
                "observed": [],
                "aio_contexts": 0,
                "io_uring_rings": 0,
                "event_loop_rings": 0,
                "iothreads": 1,
                "block_devices_open": [],
                "reason": None,
            }
        ],
        "reason": None,
    }


@pytest.mark.parametrize(
    ("name", "link", "flags"),
    [
        ("guest memory", "/memfd:memory-backend-memfd (deleted)", os.O_RDWR),
        ("the guest image, as nvdimm", "/opt/kata/share/kata-containers/kata.img", os.O_RDONLY),
        ("a device that is no disk", "/dev/null", os.O_RDWR),
        ("a log", "LOG", os.O_WRONLY | os.O_APPEND),
        ("an unlinked file that is gone", "/nonexistent/file (deleted)", os.O_RDWR),
        ("a socket", "socket:[4711]", os.O_RDWR),
        ("a folder", "/usr", os.O_RDONLY),
    ],
)
def test_what_is_no_disk(proc, binary, tmp_path, name, link, flags):  # noqa: PLR0917
    (tmp_path / "log").write_text("")
    proc.process(77, [binary, *GO[1:]], binary, [(link.replace("LOG", str(tmp_path / "log")), flags)])
    process = proc.observe()["processes"][0]
    assert (process["block_devices_open"], process["observed"]) == ([], []), name


def test_a_cold_plugged_descriptor(proc, binary, disk):
    proc.process(77, [binary, *GO[1:], "-add-fd", "fd=3,set=2"], binary, [(disk, DIRECT)])
    assert proc.observe()["processes"][0]["block_devices_open"][0]["plugged"] == "cold"


@pytest.mark.parametrize(
    ("state", "argv0"),
    [("current", None), ("deleted", None), ("replaced", None), ("moved aside", None), ("current", "qemu"), ("deleted", "qemu"), ("replaced", "qemu")],
)
def test_the_state_of_the_binary(proc, binary, tmp_path, monkeypatch, state, argv0):  # noqa: PLR0917
    running = tmp_path / "moved"
    if state == "current":
        link = binary
    elif state == "moved aside":
        os.rename(binary, running)
        (tmp_path / "qemu-system-x86_64").write_text("another")
        link, state = str(running), "replaced"
    else:
        link = binary + " (deleted)"
    folder = proc.process(77, [argv0 or binary, *GO[1:]], link)
    if link.endswith("(deleted)"):  # in the real /proc this link can be followed though the name is gone
        other = tmp_path / "the running one"
        os.rename(binary, other)
        (folder / "exe").unlink()
        (folder / "exe").symlink_to(other)
        monkeypatch.setattr(os, "readlink", lambda path, real=os.readlink: link if str(path).endswith("/exe") else real(path))
        if state == "replaced":
            (tmp_path / "qemu-system-x86_64").write_text("another")
    process = proc.observe()["processes"][0]
    assert (process["binary"], process["binary_state"]) == (binary, state)


@pytest.mark.parametrize("missing", ["maps", "fd", "exe", "status"])
def test_what_cannot_be_read_is_none_with_a_reason(proc, binary, disk, missing):
    folder = proc.process(77, [binary, *GO[1:]], binary, [(disk, DIRECT)])
    (folder / missing).rename(folder / "hidden")
    process = proc.observe()["processes"][0]
    keys = {
        "maps": ("aio_contexts", "observed"),
        "fd": ("io_uring_rings", "block_devices_open", "observed"),
        "exe": ("binary", "binary_state"),
        "status": ("uid",),
    }
    for key in keys[missing]:
        assert process[key] is None, key
    assert missing == "status" or missing + ": " in process["reason"]


def test_a_process_that_ends_meanwhile_is_left_out(proc, binary, monkeypatch):
    folder = proc.process(77, [binary, *GO[1:]], binary)
    proc.process(78, [binary, *GO[1:]], binary)
    real = _sandbox_process._descriptors

    def ending(where, *rest):
        if where.endswith("/77"):
            for name in ("stat", "cmdline", "maps"):
                (folder / name).unlink()
        return real(where, *rest)

    monkeypatch.setattr(_sandbox_process, "_descriptors", ending)
    assert [process["pid"] for process in proc.observe()["processes"]] == [78]


def test_a_number_that_is_another_process_by_now_is_left_out(proc, binary, monkeypatch):
    folder = proc.process(77, [binary, *GO[1:]], binary)
    real = _sandbox_process._descriptors
    monkeypatch.setattr(_sandbox_process, "_descriptors", lambda *args: (folder / "stat").write_bytes(STAT.replace(b"181033", b"999999")) and real(*args))
    assert proc.observe()["total"] == 0


def test_without_any_aio_context_no_map_is_read(proc, binary):
    (proc.root / "sys/fs/aio-nr").write_text("0\n")
    folder = proc.process(77, [binary, *GO[1:]], binary)
    (folder / "maps").unlink()
    assert proc.observe()["processes"][0]["aio_contexts"] == 0


def test_no_proc_at_all(tmp_path):
    result = _sandboxes.observe_sandboxes(str(tmp_path / "none"))
    assert result["total"] is None and result["by_engine"] is None and "No such file" in result["reason"]


def test_without_root_the_reason_says_so(proc, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "Not root" in proc.observe()["reason"]


# --- the command line ---


@pytest.mark.parametrize(
    ("argv", "known_by"),
    [
        (GO, ["name", "run_folder", "qmp_socket", "guest_target"]),
        (RS, ["name", "qmp_socket"]),
        (["q", "-name", "sandbox-a,debug-threads=on", "-qmp", "unix:path=/run/user/1001/run/vc/vm/a/qmp.sock"], ["name", "run_folder"]),
        (["q", "-name", "sandbox-a", "-qmp", "unix:/run/kata/a/root/qmp.sock,server=on"], ["name", "run_folder"]),
        (["q", "-name", "sandbox-a", "-qmp", "unix:qmp.sock,server=on,wait=off"], ["name", "qmp_socket"]),
        # Others' machines
        (["q", "-name", "guest=sandbox-a,debug-threads=on", "-qmp", "unix:fd=3"], None),
        (["q", "-name", "sandbox-a", "-qmp", "unix:/tmp/qmp.sock"], None),
        (["q", "-name", "sandbox-a", "-qmp", "unix:path=/run/vc/vm/b/qmp.sock"], None),
        (["q", "-name", "web", "-qmp", "unix:fd=3"], None),
        (["q", "-name"], None),
        (["grep", "sandbox-a"], None),
        ([""], None),
    ],
)
def test_which_qemu_is_katas(argv, known_by):
    asked = _sandbox_process.read_arguments(argv)
    assert (asked and asked["known_by"]) == known_by


@pytest.mark.parametrize(
    ("more", "engines", "iothreads"),
    [
        ([], [], 1),
        (GO_IMAGE_DRIVE, ["threads"], 1),
        (["-drive", "file=/a,format=raw"], ["threads"], 1),
        (["-drive", "file=/a,aio=native", "-drive", "file=/b,aio=io_uring"], ["native", "io_uring"], 1),
        (["-drive", "if=pflash,format=raw,file=/opt/kata/share/ovmf/OVMF.fd"], [], 1),
        (["-blockdev", "driver=raw,node-name=n,file.driver=file,file.filename=/a,file.aio=native"], ["native"], 1),
        (RS[-2:], ["threads"], 1),
        (["-blockdev", '{"driver":"raw"'], [], 1),
        (["-blockdev", "[" * 100000], [], 1),
        (["-blockdev", '{"a":' * 50000], [], 1),
        (["-object", '{"qom-type":"iothread","id":"i1"}'], [], 2),
        (["-drive", "file=/a,aio=bogus"], [], 1),
    ],
)
def test_what_the_command_line_asks_for(more, engines, iothreads):
    asked = _sandbox_process.read_arguments(GO + more)
    assert (asked["engines"], asked["iothreads"]) == (engines, iothreads)


def test_a_doubled_comma_is_part_of_a_path():
    assert "/a,b" in _sandbox_process.read_arguments([*GO, "-drive", "file=/a,,b,aio=native"])["files"]


# --- /proc's files ---


def test_parts_of_proc():
    assert _sandbox_process.count_aio_contexts(NATIVE_MAPS) == 2
    assert _sandbox_process.has_poll_requests(LOOP_RING) and not _sandbox_process.has_poll_requests(BLOCK_RING)
    assert _sandbox_process.parse_start_ticks(STAT) == 181033
    assert _sandbox_process.parse_uid(STATUS) == 1001
    assert _sandbox_process.parse_flags(b"pos:\t0\nflags:\t0140002\nmnt_id:\t29\n") == 0o140002
    assert _sandbox_process.parse_cmdline(b"a\0\0b c\0") == ["a", "", "b c"]


cmdline = b"\0".join(part.encode() for part in GO + RS + GO_IMAGE_DRIVE)
mutations = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40), st.binary(max_size=40)), max_size=6)


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=st.sampled_from((NATIVE_MAPS, LOOP_RING, STAT, STATUS, cmdline, b"")), changes=mutations)
def test_the_parsers_take_anything(sample, changes):
    for position, cut, new in changes:
        at = position % (len(sample) + 1)
        sample = sample[:at] + new + sample[at + cut :]
    assert 0 <= _sandbox_process.count_aio_contexts(sample) <= sample.count(b"[aio]")
    assert _sandbox_process.has_poll_requests(sample) in (True, False)
    for parse in (_sandbox_process.parse_start_ticks, _sandbox_process.parse_uid, _sandbox_process.parse_flags):
        assert parse(sample) is None or parse(sample) >= 0
    asked = _sandbox_process.read_arguments(_sandbox_process.parse_cmdline(sample))
    if asked is not None:
        assert set(asked["engines"]) <= {"threads", "native", "io_uring"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["aio", "file", "filename", "driver", "x"]), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=json_values)
def test_any_blockdev_object_is_read(value):
    asked = _sandbox_process.read_arguments([*GO, "-blockdev", json.dumps({"driver": "raw", "file": value})])
    assert set(asked["engines"]) <= {"threads", "native", "io_uring"}


def test_enormous_contents_take_bounded_time():
    started = time.process_time()
    _sandbox_process.count_aio_contexts(NATIVE_MAPS * 20000)
    _sandbox_process.read_arguments([*GO, *(["-drive", "a=b," * 50000] * 20)])
    assert time.process_time() - started < 10
