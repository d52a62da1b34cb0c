# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root trusts only root: an ordinary user's files and processes are read, told of, and neither run nor followed nor written to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._build import builder
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._change.transaction import transact
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import trust
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.plugins.module_utils._qemu.bench import bench
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus
from ansible_collections.kataops.aio.plugins.module_utils._qemu.proof import prove
from ansible_collections.kataops.aio.plugins.module_utils._tree import in_place, store
from ansible_collections.kataops.aio.plugins.modules import qemu_build
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.facts import second_look
from ansible_collections.kataops.aio.tests.fixtures.layouts import layouts
from ansible_collections.kataops.aio.tests.hostile.attack import ORDINARY, program, wait_for
from hypothesis import given
from hypothesis import strategies as st

KATA = '[hypervisor.qemu]\npath = "%s"\nblock_device_aio = "native"\n'
CRI = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-evil]
runtime_type = "io.containerd.kata-evil.v2"
runtime_path = "%(shim)s"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-evil.options]
ConfigPath = "%(kata)s"
"""
QUIET = "#!/bin/sh\ntouch %s\n"


@pytest.fixture(autouse=True)
def nobody_else_is_trusted():
    trust.also_trust([])
    yield
    trust.also_trust([])


def problem(path):
    return trust.Trust().file_problem(str(path))


@pytest.mark.parametrize("path", ["/bin/sh", "/usr/bin/env", "/etc/passwd", "/usr/../usr/bin/./env"])
def test_what_a_distribution_installs_is_trusted(path):
    assert problem(path) is None


def test_owner_mode_and_every_folder_on_the_way(ours, theirs):
    good = program(ours / "good", "x")
    assert problem(good) is None
    assert "belongs to" in problem(program(ours / "owned", "x", uid=ORDINARY))
    assert "its group" in problem(program(ours / "group", "x", mode=0o775))
    assert "others" in problem(program(ours / "world", "x", mode=0o757))
    for mode in (0o777, 0o1777, 0o775):
        folder = ours / ("folder-%o" % mode)
        folder.mkdir()
        folder.chmod(mode)
        assert str(folder) in problem(program(folder / "file", "x"))
    deeper = theirs / "deeper"
    deeper.mkdir()
    os.chown(deeper, 0, 0)
    assert str(theirs.parent) in problem(program(deeper / "file", "x"))


def test_links_are_judged_where_they_lie_and_where_they_lead(ours, theirs):
    good = program(ours / "good", "x")
    (ours / "to-good").symlink_to("good")
    (ours / "up").symlink_to("../%s/good" % ours.name)
    (ours / "to-theirs").symlink_to(theirs / "good")
    (theirs / "good").symlink_to(good)
    (ours / "loop").symlink_to("loop")
    (ours / "folder").symlink_to(theirs)
    assert problem(ours / "to-good") is None
    assert problem(ours / "up") is None
    for name in ("to-theirs", "loop", "folder/good"):
        assert problem(ours / name), name
    assert problem(theirs / "good")


def test_only_regular_files_of_absolute_paths(ours):
    os.mkfifo(ours / "fifo")
    assert "fifo" in problem(ours / "fifo")
    assert "directory" in problem(ours)
    assert "device" in problem("/dev/null")
    assert problem("bin/sh") and problem("/bin/sh\0") and problem("/none/such") and problem("")


def test_a_named_owner_is_trusted_but_not_what_others_write(theirs):
    trust.also_trust([str(ORDINARY), "no-such-user", "99999999999999999999"])
    # /tmp itself stays what it is
    assert str(theirs.parent) in problem(program(theirs / "own", "x", uid=ORDINARY))
    folder = Path("/root/kataops-hostile-owned")
    folder.mkdir()
    try:
        os.chown(folder, ORDINARY, ORDINARY)
        assert problem(program(folder / "own", "x", uid=ORDINARY)) is None
        assert problem(program(folder / "group", "x", uid=ORDINARY, mode=0o775))
        trust.also_trust([])
        assert problem(folder / "own")
    finally:
        shutil.rmtree(folder)


def test_a_script_with_all_that_it_names(ours, theirs):
    evil = program(theirs / "evil", "#!/bin/sh\n", uid=ORDINARY)
    judge = trust.Trust().program_problem
    assert judge(program(ours / "a", '#!/bin/sh\n# see %s\nexec /bin/true "$@"\n' % evil)) is None
    for text in (
        "#!%s\n" % evil,
        '#!/bin/sh\nexec %s "$@"\n' % evil,
        "#!/bin/sh\n. %s\nexec /bin/true\n" % evil,
        '#!/bin/sh\nLD_PRELOAD="%s" /bin/true\n' % evil,
        "#!/bin/sh\nx=${y:-%s};$x\n" % evil,
        "#!/usr/bin/env -S %s -x\n" % evil,
    ):
        assert evil in judge(program(ours / "b", text)), text


# --- QEMU ---


@pytest.fixture
def marked(theirs, ours):
    """A program that tells when it was run."""
    mark = ours / "it-was-run"
    yield program(theirs / "qemu-system-x86_64", QUIET % mark, uid=ORDINARY), mark
    assert not mark.exists(), "an ordinary user's program was run as root"


def test_no_module_runs_an_ordinary_users_qemu(marked, ours):
    path, _mark = marked
    [seen] = observe_qemus([path], "/var/lib", 5)
    assert (seen["status"], seen["engines"]["native"]["usable"]) == ("untrusted", None)
    assert path in seen["reason"] and "kata_aio_trusted_owners" in seen["reason"]
    assert prove(path)["cause"] == "untrusted"
    with pytest.raises(AioError, match="cannot be measured"):
        bench(path)
    wrapper = program(ours / "qemu-wrapper", '#!/bin/sh\nexec %s "$@"\n' % path)
    assert observe_qemus([wrapper], "/var/lib", 5)[0]["status"] == "untrusted"
    link = ours / "qemu-link"
    link.symlink_to(path)
    assert observe_qemus([str(link)], "/var/lib", 5)[0]["status"] == "untrusted"


def test_the_text_of_an_untrusted_qemu_is_still_read(theirs):
    if not os.path.exists("/usr/bin/qemu-system-x86_64"):
        pytest.skip("no QEMU on this machine")
    shutil.copy("/usr/bin/qemu-system-x86_64", theirs / "qemu-system-x86_64")
    [seen] = observe_qemus([str(theirs / "qemu-system-x86_64")], "/var/lib", 5)
    assert (seen["status"], seen["version_by"], seen["engines"]["native"]["compiled_by"]) == ("untrusted", "elf", "elf")


# --- processes ---

NAMED = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
open(sys.argv[2], "w").close()
time.sleep(600)
"""


def test_an_ordinary_users_process_called_containerd(marked, theirs, ours):
    """The attack that made any local user root: three programs were run, and his folder would have been written to."""
    path, mark = marked
    shim = program(theirs / "containerd-shim-kata-evil-v2", QUIET % mark, uid=ORDINARY)
    (theirs / "configuration.toml").write_text(KATA % path)
    (theirs / "config.toml").write_text(CRI % {"shim": shim, "kata": theirs / "configuration.toml"})
    (theirs / "fake.py").write_text(NAMED)
    for name in ("configuration.toml", "config.toml"):
        os.chown(theirs / name, ORDINARY, ORDINARY)
    ready = theirs / "ready"
    command = [sys.executable, str(theirs / "fake.py"), "containerd", str(ready), "--config", str(theirs / "config.toml")]
    python = shutil.which("python3", path="/usr/bin:/bin") or pytest.skip("no python3 that an ordinary user may run")
    fake = subprocess.Popen(
        ["setpriv", "--reuid=%d" % ORDINARY, "--regid=%d" % ORDINARY, "--clear-groups", python, *command[1:]],
        env={"KATA_CONF_FILE": str(theirs / "configuration.toml"), "PATH": "%s:/usr/bin:/bin" % theirs},
    )
    try:
        wait_for(ready.exists)
        kata = collect()
    finally:
        fake.kill()
        fake.wait()
    assert not [path for path in kata["documents"] if path.startswith(str(theirs))]
    assert not [path for path in [*kata["shims"], *kata["qemu_paths"], *filter(None, kata["shim_names"].values())] if path.startswith(str(theirs))]
    assert not any((process["config"] or "").startswith(str(theirs)) for process in kata["cri_processes"])
    assert any(item["what"] == "process" and str(ORDINARY) in item["reason"] for item in kata["untrusted"])


def host(tmp_path, **process):
    """A host in a folder, whose containerd names a configuration of its own."""
    layouts.put(tmp_path, "/proc/7/comm", "containerd\n")
    layouts.put(tmp_path, "/proc/7/cmdline", "/usr/bin/containerd\0--config\0/srv/config.toml\0")
    layouts.put(tmp_path, "/proc/7/environ", "KATA_CONF_FILE=/srv/kata.toml\0PATH=/srv/bin\0")
    layouts.put(tmp_path, "/srv/config.toml", CRI % {"shim": "/srv/shim-kata", "kata": "/srv/kata.toml"})
    layouts.put(tmp_path, "/srv/kata.toml", KATA % "/srv/qemu-system-x86_64")
    layouts.put(tmp_path, "/srv/shim-kata", "ELF")
    layouts.own_process(tmp_path, tmp_path / "proc/7", **process)
    return tmp_path


def named(kata):
    return {path for path in [*kata["documents"], *kata["shims"], *kata["qemu_paths"]] if path.startswith("/srv")}


def test_roots_own_containerd_is_followed(tmp_path):
    kata = collect(str(host(tmp_path)))
    assert named(kata) == {"/srv/config.toml", "/srv/kata.toml", "/srv/shim-kata", "/srv/qemu-system-x86_64"}
    assert kata["untrusted"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "usr/bin/containerd").chmod(0o4755), "root's permissions"),
        (lambda root: (root / "usr/bin/containerd").chmod(0o777), "can be changed by others"),
        (lambda root: os.chown(root / "usr/bin", ORDINARY, 0), "/usr/bin belongs to"),
        (lambda root: (root / "proc/7/status").write_text("Uid:\t65534\t0\t0\t0\n"), "belongs to"),
        (lambda root: (root / "proc/7/status").write_text("Uid:\t0\t0\t0\t1000\n"), "belongs to"),
        (lambda root: (root / "proc/7/status").write_text("nothing\n"), "cannot be told"),
        (lambda root: (root / "proc/7/status").unlink(), "cannot be looked at"),
        (lambda root: (root / "proc/7/exe").unlink(), "cannot be looked at"),
        (lambda root: relink(root / "proc/7/ns/mnt", "mnt:[2]"), "mount namespace"),
        (lambda root: relink(root / "proc/7/ns/pid", "pid:[2]"), "process namespace"),
        (lambda root: relink(root / "proc/7/ns/user", "user:[2]"), "user namespace"),
    ],
)
def test_what_is_not_roots_own_process_names_nothing(as_root, tmp_path, change, words):
    root = host(tmp_path)
    change(root)
    kata = collect(str(root))
    assert named(kata) == set()
    assert [words in item["reason"] for item in kata["untrusted"] if item["what"] == "process"] == [True]


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def test_many_such_processes_are_told_of_once(as_root, tmp_path):
    for number in range(100, 200):
        layouts.put(tmp_path, "/proc/%d/comm" % number, "containerd\n")
        layouts.put(tmp_path, "/proc/%d/cmdline" % number, "/usr/bin/containerd\0")
        layouts.own_process(tmp_path, tmp_path / ("proc/%d" % number), uid=ORDINARY)
    assert len(collect(str(tmp_path))["untrusted"]) == 1


@pytest.mark.parametrize("name", ["srv/config.toml", "srv/kata.toml"])
def test_a_text_that_others_write_is_read_and_names_nothing(as_root, tmp_path, name):
    root = host(tmp_path)
    os.chown(root / name, ORDINARY, ORDINARY)
    kata = collect(str(root))
    assert kata["documents"]["/" + name]["sha256"] and kata["documents"]["/" + name]["untrusted"]
    assert "/srv/qemu-system-x86_64" not in kata["qemu_paths"] or name == "srv/config.toml"
    assert [item["path"] for item in kata["untrusted"]] == ["/" + name]
    runtimes, more = second_look({"kata": kata, "qemus": []})
    assert "/srv/qemu-system-x86_64" not in more.get("binaries", []) or name == "srv/config.toml"
    assert runtimes or more


def test_a_shim_that_others_can_change_is_not_asked_its_version(as_root, tmp_path):
    root = host(tmp_path)
    (root / "srv/shim-kata").chmod(0o777)
    asked = []
    kata = collect(str(root), run_version=asked.append)
    assert asked == []
    assert kata["shims"]["/srv/shim-kata"]["untrusted"]


# --- folders ---


def change(path):
    return {"kind": "file", "name": str(path), "expected_sha256": None, "content_b64": "eA==", "mode": None, "uid": None, "gid": None, "info": {}}


ABOUT = {"tool": "test", "kind": "change"}


def test_no_configuration_is_written_below_a_folder_of_others(theirs, ours):
    with pytest.raises(AioError, match="is refused here"):
        transact(Journal(str(ours / "state")), [change(theirs / "config.toml")], ABOUT)
    (ours / "config.d").symlink_to(theirs)
    with pytest.raises(AioError, match="is refused here"):
        transact(Journal(str(ours / "state")), [change(ours / "config.d" / "x.toml")], ABOUT)
    assert list(theirs.iterdir()) == []
    assert transact(Journal(str(ours / "state")), [change(ours / "x.toml")], ABOUT)["changed"]


def test_a_record_that_others_can_plant_is_not_carried_out(theirs, ours):
    (theirs / "state" / "journal").mkdir(parents=True)
    for name in ("state", "state/journal"):
        os.chown(theirs / name, ORDINARY, ORDINARY)
    with pytest.raises(AioError, match="is refused here"):
        Journal(str(theirs / "state")).entries()
    with pytest.raises(AioError, match="is refused here"):
        transact(Journal(str(theirs / "state")), [change(ours / "x.toml")], ABOUT)
    assert not (ours / "x.toml").exists()
    (ours / "in-place").mkdir()
    os.chown(ours / "in-place", ORDINARY, ORDINARY)
    with pytest.raises(AioError, match="is refused here"):
        in_place.records(str(ours))


def test_trees_are_kept_only_where_root_alone_writes(theirs, ours):
    with pytest.raises(AioError, match="is refused here"), store.locked(str(theirs / "trees")):
        pass
    before = os.umask(0)
    try:
        with store.locked(str(ours / "a" / "b")):
            assert [path.stat().st_mode & 0o777 for path in (ours / "a", ours / "a" / "b")] == [0o755, 0o755]
    finally:
        os.umask(before)


def test_a_builders_folder_that_somebody_made_first(theirs, ours):
    """A link in it made the builder delete every file of a folder of root's."""
    victim = ours / "important"
    victim.mkdir()
    (victim / "file").write_text("x")
    (theirs / "apt").mkdir()
    (theirs / "apt" / "sources.list.d").symlink_to(victim)
    with pytest.raises(AioError, match="is refused here"):
        qemu_build.perform({"step": "identify", "work_dir": str(theirs)})
    with pytest.raises(AioError, match="is refused here"):
        qemu_build.perform({"step": "prepare", "work_dir": str(theirs), "id": "qemu-7.2.22-x86_64-static-0123456789ab"})
    assert (victim / "file").exists()
    builder.make_work_folder(str(ours / "work"))
    assert (ours / "work").stat().st_mode & 0o777 == 0o700
    assert trust.Trust().nearest_problem(qemu_build.ARGUMENT_SPEC["work_dir"]["default"]) is None


# --- properties ---


@given(st.binary(max_size=4096))
def test_any_script_text_gives_absolute_names(text):
    names = trust.names_in_script(text)
    assert len(names) <= trust.MAX_NAMES
    assert all(name.startswith("/") and "\0" not in name for name in names)


@given(comm=st.binary(max_size=20), cmdline=st.binary(max_size=200), environ=st.binary(max_size=200), status=st.binary(max_size=100))
def test_any_process_is_looked_at_without_a_fault(tmp_path_factory, comm, cmdline, environ, status):
    root = tmp_path_factory.mktemp("host")
    for name, data in (("comm", comm or b"containerd\n"), ("cmdline", cmdline), ("environ", environ), ("status", status)):
        layouts.put(root, "/proc/9/" + name, data)
    with contextlib.suppress(OSError):
        (root / "proc/9/exe").symlink_to(cmdline.split(b"\0")[0].decode("latin-1") or "/x")
    kata = collect(str(root))
    assert kata["cri_processes"] == []
