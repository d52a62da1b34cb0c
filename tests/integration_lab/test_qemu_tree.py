# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees around real QEMUs: they find their own firmware, work, and are kept while they run; a QEMU without libaio gets nowhere.

Needs KATAOPS_LAB_QEMUS: a folder with static-none, static-both and firmware/.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._build import builder as _builder
from ansible_collections.kataops.aio.plugins.module_utils._build import recipe as _recipe
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree import store as _tree
from ansible_collections.kataops.aio.plugins.module_utils._tree import use as _tree_use
from release_tarball import kata_static

FOLDER = Path(os.environ.get("KATAOPS_LAB_QEMUS", "/nonexistent"))
NEEDED = ("static-none", "static-both", "firmware")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not all((FOLDER / name).exists() for name in NEEDED), reason="KATAOPS_LAB_QEMUS has not got %s" % ", ".join(NEEDED)),
]

ARCH = "x86_64"
BINARY = "qemu-system-x86_64"


def pack(tmp_path, variant, engines):
    """An artifact around a real QEMU, whatever its manifest says of it."""
    folder = tmp_path / ("tree-" + variant)
    data = folder / _recipe.DATA_DIR
    data.mkdir(parents=True)
    (folder / "bin").mkdir()
    shutil.copy(FOLDER / variant, folder / "bin" / BINARY)
    (folder / "bin" / BINARY).chmod(0o755)
    for path in (FOLDER / "firmware").iterdir():
        if path.is_file():
            shutil.copy(path, data / path.name)
            (data / path.name).chmod(0o644)
    fields = {
        "id": "qemu-7.2-%s-%s-0123456789ab" % (ARCH, variant),
        "version": "7.2.22",
        "architecture": ARCH,
        "linkage": "static",
        "engines": engines,
        "source": {"kind": "distribution"},
        "binary": "bin/" + BINARY,
        "data_dir": _recipe.DATA_DIR,
        "prefix": None,
    }
    path = tmp_path / (fields["id"] + ".tar.xz")
    _manifest.write_archive(str(folder), _manifest.complete(str(folder), fields), str(path))
    return str(path)


@pytest.fixture
def installed(tmp_path):
    return _tree.install(pack(tmp_path, "static-both", ["io_uring", "native"]), str(tmp_path / "trees"), engines=["native"])


def test_it_finds_its_own_firmware_and_does_native_io(installed):
    told = subprocess.run([installed["binary"], "-L", "help"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    assert os.path.join(installed["folder"], _recipe.DATA_DIR) in [os.path.normpath(line) for line in told]
    found = observe_qemus([installed["binary"]], storage_path="/var/tmp", timeout=60)[0]
    assert found["status"] == "answered"
    assert found["engines"]["native"]["compiled"] is True
    assert found["firmware"]["missing"] == []
    assert all(path.startswith(installed["folder"] + "/") for path in found["firmware"]["found"].values())
    assert _builder.start_machine(installed["binary"], ARCH) == []


@pytest.mark.parametrize("name", ["bios-256k.bin", "efi-virtio.rom"])
def test_a_machine_whose_firmware_is_missing_does_not_start(installed, name):
    os.unlink(os.path.join(installed["folder"], _recipe.DATA_DIR, name))
    (told,) = _builder.start_machine(installed["binary"], ARCH)
    assert name in told


def test_a_qemu_without_libaio_is_refused_though_its_manifest_promises_it(tmp_path):
    path = pack(tmp_path, "static-none", ["native"])
    with pytest.raises(AioError, match="built without native, though its manifest says otherwise"):
        _tree.install(path, str(tmp_path / "trees"), engines=["native"])
    assert not (tmp_path / "trees").exists()


def test_a_tree_is_in_use_while_its_qemu_runs(installed):
    command = [installed["binary"], "-machine", "none", "-nodefaults", "-display", "none", "-S", "-accel", "kvm", "-accel", "qtest"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        assert _tree_use.by_processes(installed["folder"]) == ["process %d runs it" % process.pid]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert _tree_use.by_processes(installed["folder"]) == []


@pytest.mark.parametrize("compress", [["xz", "-0"], ["zstd", "-q", "--rm"]], ids=["xz", "zst"])
def test_the_qemu_of_a_kata_release_becomes_a_tree(tmp_path, compress):
    if not shutil.which(compress[0]):
        pytest.skip("no %s here" % compress[0])
    inputs, build = start(tmp_path, kata_static(tmp_path, FOLDER, "static-both", compress), ["native"])
    status = build.status(wait=120)
    assert status["state"] == "succeeded", status["log_tail"]
    checked = build.check()
    assert checked["problems"] == []
    assert checked["compiled"] == ["native", "io_uring"]
    packed = build.pack()
    assert packed["manifest"]["version"] == "7.2.22"
    assert "bin/containerd-shim-kata-v2" not in [entry["path"] for entry in packed["manifest"]["files"]]
    made = _tree.install(packed["path"], str(tmp_path / "trees"), engines=["native"])
    assert made["id"] == _recipe.tree_id(inputs)
    # Also where Kata's own folder is on the machine: the tree's own firmware is the first that is looked at.
    told = subprocess.run([made["binary"], "-L", "help"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    assert os.path.normpath(told[0]) == os.path.join(made["folder"], _recipe.DATA_DIR)
    found = observe_qemus([made["binary"]], storage_path="/var/tmp", timeout=60)[0]
    assert (found["status"], found["kind"], found["engines"]["native"]["compiled"]) == ("answered", "script", True)
    assert _builder.start_machine(made["binary"], ARCH) == []
    # Another controller asks for it after the tree was cleaned away: it gets the same archive, and nothing is made again.
    assert build.clean() is True
    assert build.start(inputs, str(tmp_path / "cache"), 300)["state"] == "succeeded"
    assert (build.check(), build.pack()) == (checked, packed)


def start(tmp_path, path, engines, sha256=None):
    source = {"kind": "kata_static", "name": path.name, "version": "3.8.0", "sha256": sha256 or _manifest.file_sha256(str(path))}
    inputs = _recipe.inputs(
        arch=ARCH, linkage="static", engines=engines, minimal=False, hardening=True, extra=[], source=source, patch_digests=[], toolchain={}
    )
    build = _builder.Build(str(tmp_path / "work"), _recipe.tree_id(inputs))
    build.start(inputs, str(tmp_path / "cache"), 300, source_path=str(path))
    return inputs, build


def test_a_kata_release_without_libaio_becomes_no_artifact(tmp_path):
    _inputs, build = start(tmp_path, kata_static(tmp_path, FOLDER, "static-none", ["xz", "-0"]), ["native"])
    assert build.status(wait=120)["state"] == "succeeded"
    (problem,) = [words for words in build.check()["problems"] if "native" in words]
    assert "native was asked for, and is not built in" in problem
    with pytest.raises(AioError, match="no finished and checked build"):
        build.pack()


@pytest.mark.parametrize("harm", ["checksum", "truncated", "without qemu"])
def test_a_bad_kata_release_is_told(tmp_path, harm):
    path = kata_static(tmp_path, FOLDER, "static-none", ["xz", "-0"])
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif harm == "without qemu":
        with tarfile.open(path, "w:xz") as archive:
            archive.add(tmp_path / "root" / "opt" / "kata" / "VERSION", "./opt/kata/VERSION")
    _inputs, build = start(tmp_path, path, [], sha256="0" * 64 if harm == "checksum" else None)
    status = build.status(wait=60)
    assert status["state"] == "failed"
    words = {"checksum": "computed checksum did NOT match", "truncated": "Unexpected end of input", "without qemu": "Not found in archive"}
    assert words[harm] in "\n".join(status["log_tail"])
