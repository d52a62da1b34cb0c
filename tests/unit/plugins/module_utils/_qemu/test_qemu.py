# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observing what is no QEMU or a bad one, and a recorded one. Real QEMUs are observed in tests/integration_lab/test_qemu_matrix.py."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu import observe as _qemu
from ansible_collections.kataops.aio.plugins.module_utils._qemu.requirements import DEVICES

KEYS = {
    "path", "names", "real_path", "status", "reason", "kind", "wrapper", "origin", "package", "file", "version", "version_by", "architecture",
    "linkage", "needed", "engines", "firmware", "devices_missing", "objects_missing", "machine_types", "evidence",
}  # fmt: skip
ENGINE_KEYS = {"compiled", "compiled_by", "usable", "outcome", "cause", "needs_direct", "observed", "reason", "evidence"}


def check_contract(qemu):
    assert set(qemu) == KEYS
    assert (qemu["reason"] is None) == (qemu["status"] == "answered")
    assert set(qemu["engines"]) == {"threads", "native", "io_uring"}
    for engine in qemu["engines"].values():
        assert set(engine) == ENGINE_KEYS
        assert (engine["outcome"] == "works") == (engine["usable"] is True)
        assert engine["reason"] or engine["outcome"] == "works"
        assert (engine["compiled"] is None) == (engine["compiled_by"] is None)
    for item in qemu["evidence"] + [item for engine in qemu["engines"].values() for item in engine["evidence"]]:
        assert set(item) == {"asked", "answered", "by"}
        assert item["by"] in ("qmp", "elf", "syscall", "file", "command", "proc")
    json.dumps(qemu)


def observe(path, tmp_path, **options):
    [qemu] = _qemu.observe_qemus([str(path)], str(tmp_path), **dict({"timeout": 20}, **options))
    check_contract(qemu)
    return qemu


def script(tmp_path, text, name="qemu"):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o755)
    return path


GREETING = '{"QMP": {"version": {"qemu": {"micro": 4, "minor": 2, "major": 8}, "package": ""}, "capabilities": []}}'
# (script, status, words that the reason must have)
BAD = [
    ("#!/bin/sh\nexit 0\n", "not_qemu", "said nothing"),
    ("#!/bin/sh\necho hello\nexit 1\n", "unintelligible", "no QMP"),
    ("#!/bin/sh\necho 'error while loading shared libraries: libaio.so.1' >&2\nexit 127\n", "crashed", "libaio.so.1"),
    ("#!/bin/sh\nkill -SEGV $$\n", "crashed", "signal 11"),
    ("#!/bin/sh\nkill -SYS $$\n", "killed", "SIGSYS"),
    ("#!/bin/sh\nkill -KILL $$\n", "killed", "SIGKILL"),
    # A shell that waits reports its child's signal.
    ("#!/bin/sh\n/bin/sh -c 'kill -SYS $$'\nexit $?\n", "killed", "SIGSYS"),
    ("#!/bin/sh\nexec yes\n", "unintelligible", "is it QEMU"),
    ("#!/bin/sh\necho '{\"QMP\": 1}'\nsleep 100\n", "unintelligible", "greeting"),
    ("#!/bin/sh\necho '%s'\nread line\necho '{\"return\": {}}'\nexit 0\n" % GREETING, "crashed", "while it was asked"),
    ('#!/bin/sh\necho \'%s\'\nread line\necho \'{"error": {"desc": "no"}}\'\nsleep 100\n' % GREETING, "unintelligible", "qmp_capabilities"),
    ("#!/nonesuch/interpreter\n", "not_executable", "interpreter"),
]


@pytest.mark.parametrize(("text", "status", "words"), BAD)
def test_bad_qemus_are_told_apart(tmp_path, text, status, words):
    qemu = observe(script(tmp_path, text), tmp_path)
    assert qemu["status"] == status
    assert words in qemu["reason"]
    assert qemu["engines"]["native"]["outcome"] == "unknown"


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nsleep 1000 &\nwait\n", "#!/bin/sh\nexec sleep 1000\n", "#!/bin/sh\nsleep 1000 >/dev/null <&- &\nexec >&-\nwait\n"]
)
def test_a_hanging_wrapper_is_killed_in_time(tmp_path, text):
    started = time.monotonic()
    qemu = observe(script(tmp_path, text), tmp_path, timeout=1)
    assert qemu["status"] == "timed_out"
    assert time.monotonic() - started < 15


def test_a_program_that_is_no_qemu(tmp_path):
    qemu = observe("/bin/cat", tmp_path)
    assert (qemu["status"], qemu["kind"], qemu["version"]) == ("not_qemu", "elf", None)


# Answers to the requests in their order; what QEMU says of an engine is the recorded text of a build without it.
FAKE = """#!%s
import json, sys
DEVICES = HAS
if "-L" in sys.argv:
    print("/nonesuch/share/qemu")
    sys.exit(0)
for word in sys.argv:
    if word.split(".")[0] in ("kataops-aio-none", "virtio-9p-pci"):
        print("qemu: warning: global %%s has invalid class name" %% word.split("=")[0], file=sys.stderr, flush=True)
print('%s', flush=True)
for line in sys.stdin:
    request = json.loads(line)
    command, arguments = request["execute"], request.get("arguments", {})
    if command == "quit":
        break
    answer = {"return": {}}
    if command == "blockdev-add" and arguments["aio"] == "native":
        answer = {"error": {"class": "GenericError", "desc": "aio=native was specified, but is not supported in this build."}}
    elif command == "blockdev-add" and arguments["aio"] == "io_uring":
        answer = {"error": {"class": "GenericError", "desc": "Parameter 'aio' does not accept value 'io_uring'"}}
    elif command == "human-monitor-command":
        print("write failed: Input/output error", flush=True)
        answer = {"return": ""}
    elif command == "query-target":
        answer = {"return": {"arch": "x86_64"}}
    elif command == "query-machines":
        answer = {"return": [{"name": "pc-q35-8.2", "alias": "q35"}, {"name": "none"}]}
    elif command == "qom-list-types":
        answer = {"return": [{"name": name} for name in DEVICES]}
    elif arguments.get("typename") == "rng-random":
        answer = {"error": {"class": "DeviceNotFound", "desc": "Class 'rng-random' not found"}}
    print(json.dumps(answer), flush=True)
"""


FAKE = FAKE.replace("HAS", repr([name for name in DEVICES["x86_64"] if name != "virtio-9p-pci"]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # QEMU's words are others: its list of types tells.
        ("kataops-aio-none", "kataops-aio-nothing"),
        ("has invalid class name", "is unknown"),
    ],
)
def test_missing_devices_are_told_without_the_warnings(tmp_path, old, new):
    qemu = observe(script(tmp_path, FAKE.replace(old, new) % (sys.executable, GREETING)), tmp_path)
    assert qemu["devices_missing"] == ["virtio-9p-pci"]


def test_a_module_may_bring_what_the_warnings_miss(tmp_path):
    text = FAKE.replace("DEVICES = [", "DEVICES = ['virtio-9p-pci', ")
    qemu = observe(script(tmp_path, text % (sys.executable, GREETING)), tmp_path)
    assert qemu["devices_missing"] == []


def test_a_recorded_qemu_whose_write_fails(tmp_path):
    qemu = observe(script(tmp_path, FAKE % (sys.executable, GREETING)), tmp_path)
    assert qemu["status"] == "answered"
    assert (qemu["version"], qemu["version_by"]) == ("8.2.4", "qmp")
    assert {name: engine["outcome"] for name, engine in qemu["engines"].items()} == {
        "threads": "refused",
        "native": "not_compiled",
        "io_uring": "not_compiled",
    }
    assert qemu["engines"]["threads"]["cause"] == "io_error"
    assert "Input/output error" in qemu["engines"]["threads"]["reason"]
    assert qemu["devices_missing"] == ["virtio-9p-pci"]
    assert qemu["objects_missing"] == ["rng-random"]
    assert qemu["machine_types"] == ["q35"]
    assert qemu["firmware"]["search_paths"] == ["/nonesuch/share/qemu"]
    assert "bios-256k.bin" in qemu["firmware"]["missing"]


def test_answers_of_another_shape_are_unintelligible(tmp_path):
    text = (FAKE % (sys.executable, GREETING)).replace('"return": [{"name": "pc-q35-8.2", "alias": "q35"}, {"name": "none"}]', '"return": 5')
    qemu = observe(script(tmp_path, text), tmp_path)
    assert qemu["status"] == "unintelligible"
    assert qemu["engines"]["native"]["outcome"] == "not_compiled"


def test_a_storage_that_takes_no_file_leaves_the_engines_unknown(tmp_path):
    [qemu] = _qemu.observe_qemus([str(script(tmp_path, FAKE % (sys.executable, GREETING)))], "/proc/self", timeout=20)
    check_contract(qemu)
    assert qemu["engines"]["threads"]["usable"] is None
    assert "no test image" in qemu["engines"]["threads"]["reason"]
    assert qemu["engines"]["native"]["outcome"] == "not_compiled"


def test_one_file_with_many_names_is_one_result(tmp_path):
    counter = tmp_path / "starts"
    path = script(tmp_path, '#!/bin/sh\ncase "$*" in *-L*) ;; *) echo x >>%s ;; esac\nexit 0\n' % counter)
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "hard")
    names = [str(path), str(tmp_path / "link"), str(path), str(tmp_path / "hard"), "/nonesuch", "/nonesuch"]
    first, second = _qemu.observe_qemus(names, str(tmp_path))
    assert first["names"] == [names[0], names[1], names[3]]
    assert second["names"] == ["/nonesuch"]
    assert counter.read_text() == "x\n"


@pytest.mark.parametrize("path", ["", "qemu-system-x86_64", "/x\0y"])
def test_a_path_that_means_nothing_is_a_result(tmp_path, path):
    assert observe(path, tmp_path)["status"] == "missing"


def test_a_relative_storage_path_is_an_error(tmp_path):
    with pytest.raises(AioError, match="not absolute"):
        _qemu.observe_qemus([], "images")


def fake_elf(tmp_path, *strings, mode=0o644):
    """A real ELF file with QEMU's strings behind it, as a linker would leave them."""
    path = tmp_path / "qemu-system-x86_64"
    shutil.copy("/bin/true", path)
    with open(path, "ab") as stream:
        stream.write(b"\0".join((b"", b"QEMU emulator version 7.2.0 (kata-static)", *strings, b"")))
    path.chmod(mode)
    return path


def test_what_cannot_be_run_is_read(tmp_path):
    path = fake_elf(tmp_path, b"aio=native was specified, but is not supported in this build.", b"failed to init linux io_uring ring", mode=0o644)
    qemu = observe(path, tmp_path)
    assert qemu["status"] == "not_executable"
    assert (qemu["version"], qemu["version_by"], qemu["origin"]) == ("7.2.0", "elf", "kata_static")
    native, io_uring, threads = (qemu["engines"][name] for name in ("native", "io_uring", "threads"))
    assert (native["compiled"], native["outcome"], native["usable"], native["compiled_by"]) == (False, "not_compiled", False, "elf")
    assert (io_uring["compiled"], io_uring["outcome"], io_uring["usable"]) == (True, "unknown", None)
    assert threads["compiled"] is True
    assert [item["by"] for item in native["evidence"]] == ["elf"]


def test_nothing_is_started_where_that_is_not_wanted(tmp_path):
    path = fake_elf(tmp_path, b"failed to create linux AIO context", mode=0o755)
    qemu = observe(path, tmp_path, run=False)
    assert "not to be run" in qemu["reason"]
    assert qemu["engines"]["native"]["compiled"] is True
    counter = tmp_path / "started"
    observe(script(tmp_path, "#!/bin/sh\ntouch %s\n" % counter), tmp_path, run=False)
    assert not counter.exists()
