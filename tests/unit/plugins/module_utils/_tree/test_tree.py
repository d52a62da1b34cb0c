# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU trees: what is installed is what the manifest says, and whatever is wrong with an artifact leaves the host as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import command
from ansible_collections.kataops.aio.plugins.module_utils._tree import compression as _archive
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree import store as _tree

ARCH = os.uname().machine
ID = "qemu-7.2.22-%s-static-0123456789ab" % ARCH
ABSENT_MARK = b"aio=native was specified, but is not supported in this build."


def fields(**more):
    return dict(
        {
            "id": ID,
            "version": "7.2.22",
            "architecture": ARCH,
            "linkage": "static",
            "engines": [],
            "source": {"kind": "tarball", "name": "qemu-7.2.22", "version": "7.2.22", "sha256": "0" * 64},
            "toolchain": {"gcc": "12", "libaio-dev": "0.3.113-4"},
            "binary": "bin/qemu-system-x86_64",
            "data_dir": "share/kata-qemu/qemu",
            "prefix": None,
            "source_date_epoch": 1700000000,
        },
        **more,
    )


def write_tree(folder, words=b""):
    """A small tree around a real ELF program of this machine."""
    (folder / "bin").mkdir(parents=True)
    binary = folder / "bin" / "qemu-system-x86_64"
    with open("/bin/true", "rb") as handle:
        binary.write_bytes(handle.read() + words)
    binary.chmod(0o755)
    (folder / "share" / "kata-qemu" / "qemu").mkdir(parents=True)
    for name in ("bios-256k.bin", "kvmvapic.bin"):
        path = folder / "share" / "kata-qemu" / "qemu" / name
        path.write_bytes(name.encode() * 1000)
        path.chmod(0o644)
    return folder


@pytest.fixture
def packed(tmp_path):
    folder = write_tree(tmp_path / "made")
    manifest = _manifest.complete(str(folder), fields())
    path = tmp_path / ("%s.tar.xz" % ID)
    written = _manifest.write_archive(str(folder), manifest, str(path))
    return {"path": str(path), "manifest": manifest, "folder": folder, "sha256": written["sha256"], "trees": str(tmp_path / "trees")}


def snapshot(folder):
    """Everything below a folder: kind, mode and contents by path; None where there is no folder."""
    if not os.path.isdir(folder):
        return None
    found = {}
    for base, names, files in os.walk(folder):
        for name in names + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            data = pathlib.Path(path).read_bytes() if os.path.isfile(path) and not os.path.islink(path) else None
            found[os.path.relpath(path, folder)] = (status.st_mode, data)
    return found


def repack(packed, change, target=None):
    """Another archive of the same tree whose members went through ``change(info, data)`` -> list of (info, data)."""
    path = target or packed["path"] + ".changed"
    with tarfile.open(packed["path"]) as old, tarfile.open(path, "w:xz") as new:
        for info in old:
            data = old.extractfile(info).read() if info.isreg() else None
            for changed, contents in change(info, data):
                new.addfile(changed, None if contents is None else io.BytesIO(contents))
    return path


# --- what is right ---


def test_a_tree_is_installed_as_its_manifest_says_and_only_once(packed):
    result = _tree.install(packed["path"], packed["trees"], tree_id=ID, sha256=packed["sha256"])
    assert result["changed"] is True
    tree = os.path.join(packed["trees"], ID)
    assert result["folder"] == tree
    assert os.listdir(packed["trees"]) == [ID]
    for entry in packed["manifest"]["files"]:
        path = os.path.join(tree, entry["path"])
        assert _manifest.file_sha256(path) == entry["sha256"]
        assert "%04o" % (os.stat(path).st_mode & 0o7777) == entry["mode"]
    assert _tree.problems(tree) == []
    before = snapshot(tree)
    inode = os.stat(result["binary"]).st_ino
    again = _tree.install(packed["path"], packed["trees"])
    assert again["changed"] is False
    assert snapshot(tree) == before
    assert os.stat(result["binary"]).st_ino == inode


def test_modes_do_not_depend_on_the_umask(packed):
    old = os.umask(0o077)
    try:
        _tree.install(packed["path"], packed["trees"])
    finally:
        os.umask(old)
    tree = os.path.join(packed["trees"], ID)
    assert os.stat(tree).st_mode & 0o777 == 0o755
    assert os.stat(os.path.join(tree, "share/kata-qemu/qemu")).st_mode & 0o777 == 0o755


def test_check_mode_tells_and_writes_nothing(packed):
    assert _tree.install(packed["path"], packed["trees"], check_mode=True)["changed"] is True
    assert not os.path.exists(packed["trees"])


@pytest.mark.parametrize("harm", ["contents", "missing", "mode", "extra", "link", "manifest", "folder_is_file"])
def test_a_damaged_tree_is_mended_and_a_running_program_keeps_its_file(packed, harm):
    tree = os.path.join(packed["trees"], ID)
    _tree.install(packed["path"], packed["trees"])
    good = snapshot(tree)
    bios = pathlib.Path(tree, "share/kata-qemu/qemu/bios-256k.bin")
    if harm == "contents":
        data = bytearray(bios.read_bytes())
        data[17] ^= 1
        bios.write_bytes(bytes(data))
    elif harm == "missing":
        os.unlink(bios)
    elif harm == "mode":
        os.chmod(bios, 0o666)
    elif harm == "extra":
        pathlib.Path(tree, "share", "more").touch()
    elif harm == "link":
        os.unlink(bios)
        os.symlink("/etc/passwd", bios)
    elif harm == "manifest":
        pathlib.Path(tree, "manifest.json").write_text("{}", encoding="ascii")
    elif harm == "folder_is_file":
        shutil.rmtree(os.path.join(tree, "share"))
        pathlib.Path(tree, "share").touch()
    with open(os.path.join(tree, "bin/qemu-system-x86_64"), "rb") as held:
        first = held.read(64)
        assert _tree.problems(tree, packed_digest(packed)) != []
        result = _tree.install(packed["path"], packed["trees"])
        held.seek(0)
        assert held.read(64) == first
    assert result["changed"] is True
    assert len(result["repaired"]) >= 1
    assert snapshot(tree) == good
    assert os.path.getsize("/etc/passwd") > 0
    assert _tree.problems(tree, packed_digest(packed)) == []


def packed_digest(packed):
    return hashlib.sha256(_manifest.dump(packed["manifest"])).hexdigest()


def test_what_a_killed_run_left_is_removed_by_the_next(packed):
    os.makedirs(os.path.join(packed["trees"], _tree.TEMPORARY + "left", "bin"))
    _tree.install(packed["path"], packed["trees"])
    assert os.listdir(packed["trees"]) == [ID]


def test_a_run_that_is_killed_while_unpacking_leaves_no_tree(packed):
    code = (
        "import os, signal, sys\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._host import trust\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._tree import store as _tree\n"
        "trust.JUDGED_BELOW = os.path.dirname(sys.argv[2])\n"
        "real = _tree.Archive._unpack_file\n"
        "def dies(self, member, entry, target):\n"
        "    real(self, member, entry, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "_tree.Archive._unpack_file = dies\n"
        "_tree.install(sys.argv[1], sys.argv[2])\n"
    )
    collections = str(pathlib.Path(_tree.__file__).parents[6])
    done = subprocess.run([sys.executable, "-c", code, packed["path"], packed["trees"]], env=dict(os.environ, PYTHONPATH=collections), check=False)
    assert done.returncode == -9
    assert _tree.tree_ids(packed["trees"]) == []
    assert _tree.install(packed["path"], packed["trees"])["changed"] is True
    assert os.listdir(packed["trees"]) == [ID]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_other_compressions_are_read_too(packed, kind, tmp_path):
    path = str(tmp_path / "other")
    data = lzma.decompress(pathlib.Path(packed["path"]).read_bytes())
    if kind == "gzip":
        pathlib.Path(path).write_bytes(gzip.compress(data))
    else:
        if not shutil.which("zstd"):
            pytest.skip("no zstd command on this machine")
        pathlib.Path(path).write_bytes(subprocess.run(["zstd", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout)
    assert _archive.compression(path) == kind
    assert _tree.install(path, packed["trees"])["changed"] is True


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads zstd by itself")
def test_zstd_without_its_command_is_told_with_the_remedy(packed, tmp_path, monkeypatch):
    path = tmp_path / "other"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"0" * 100)
    monkeypatch.setattr(command, "PATH", str(tmp_path))
    with pytest.raises(AioError, match="cannot read zstd.*install the package zstd"):
        _tree.install(str(path), packed["trees"])


def test_equal_trees_give_equal_archives_wherever_and_whenever_they_are_made(tmp_path):
    digests = set()
    for number, place in enumerate(("one", "another/deeper/place")):
        old = os.umask(0o077 if number else 0o022)
        try:
            folder = write_tree(tmp_path / place)
            for base, _names, files in os.walk(folder):
                for name in files:
                    os.utime(os.path.join(base, name), (number * 1000, number * 1000))
            manifest = _manifest.complete(str(folder), fields())
            path = str(tmp_path / ("%d.tar.xz" % number))
            digests.add(_manifest.write_archive(str(folder), manifest, path)["sha256"])
        finally:
            os.umask(old)
    assert len(digests) == 1


# --- what is wrong ---


def renamed(info, name):
    info.name = name
    return info


def with_kind(info, kind, link=""):
    info.type, info.linkname, info.size = kind, link, 0
    return info


def is_bios(info):
    return info.name.endswith("bios-256k.bin")


WRONG_MEMBERS = {
    "traversal": (lambda i, d: [(renamed(i, ID + "/../../evil"), d)] if is_bios(i) else [(i, d)], "would leave the tree"),
    "traversal inside": (lambda i, d: [(renamed(i, ID + "/share/../bin/x"), d)] if is_bios(i) else [(i, d)], "would leave the tree"),
    "absolute": (lambda i, d: [(renamed(i, "/etc/evil"), d)] if is_bios(i) else [(i, d)], "outside of its own folder"),
    "other folder": (lambda i, d: [(renamed(i, "qemu-other/bios"), d)] if is_bios(i) else [(i, d)], "outside of its own folder"),
    "symlink": (lambda i, d: [(with_kind(i, tarfile.SYMTYPE, "/etc/passwd"), None)] if is_bios(i) else [(i, d)], "a link"),
    "hard link": (lambda i, d: [(with_kind(i, tarfile.LNKTYPE, ID + "/manifest.json"), None)] if is_bios(i) else [(i, d)], "a link"),
    "device": (lambda i, d: [(with_kind(i, tarfile.CHRTYPE), None)] if is_bios(i) else [(i, d)], "a device or pipe"),
    "pipe": (lambda i, d: [(with_kind(i, tarfile.FIFOTYPE), None)] if is_bios(i) else [(i, d)], "a device or pipe"),
    "tampered": (lambda i, d: [(i, b"x" + d[1:])] if is_bios(i) else [(i, d)], "other contents than its manifest says"),
    "missing": (lambda i, d: [] if is_bios(i) else [(i, d)], "not all files of its manifest.*bios-256k.bin"),
    "twice": (lambda i, d: [(i, d), (i, d)] if is_bios(i) else [(i, d)], "does not have, or has once only"),
    "extra": (lambda i, d: [(i, d), (renamed(tarfile.TarInfo(), ID + "/bin/more"), b"")] if is_bios(i) else [(i, d)], "does not have"),
    "no manifest": (lambda i, d: [] if i.name.endswith("manifest.json") else [(i, d)], "does not begin with its manifest"),
}


@pytest.mark.parametrize("name", sorted(WRONG_MEMBERS))
def test_wrong_members_are_refused_and_the_host_stays_as_it_was(packed, tmp_path, name):
    change, words = WRONG_MEMBERS[name]
    path = repack(packed, change)
    before = snapshot(tmp_path)
    with pytest.raises(AioError, match=words):
        _tree.install(path, packed["trees"])
    assert snapshot(tmp_path) == before


def test_a_setuid_bit_is_refused(packed, tmp_path):
    def change(info, data):
        if is_bios(info):
            info.mode = 0o4755
        return [(info, data)]

    path = repack(packed, change)
    before = snapshot(tmp_path)
    with pytest.raises(AioError, match="setuid"):
        _tree.install(path, packed["trees"])
    assert snapshot(tmp_path) == before


def test_another_size_than_the_manifests_is_refused(packed, tmp_path):
    def change(info, data):
        if is_bios(info):
            data += b"more"
            info.size = len(data)
        return [(info, data)]

    path = repack(packed, change)
    with pytest.raises(AioError, match="bytes, where its manifest says"):
        _tree.install(path, packed["trees"])
    assert not os.path.exists(packed["trees"])


@pytest.mark.parametrize("part", [0, 1, 20, 0.2, 0.5, 0.9, -1])
def test_a_truncated_artifact_is_refused(packed, part):
    data = pathlib.Path(packed["path"]).read_bytes()
    cut = packed["path"] + ".cut"
    end = part if isinstance(part, int) else int(len(data) * part)
    pathlib.Path(cut).write_bytes(data[:end])
    with pytest.raises(AioError, match="truncated or damaged|not an archive|does not begin"):
        _tree.install(cut, packed["trees"])
    assert not os.path.exists(packed["trees"])


def test_no_flipped_bit_of_the_archive_is_ever_installed_as_something_else(packed, tmp_path):
    """Either refused in one sentence, or what stands there is what the manifest says."""
    plain = lzma.decompress(pathlib.Path(packed["path"]).read_bytes())
    choice = random.Random(20261122)
    accepted = 0
    for _turn in range(150):
        data = bytearray(plain)
        place = choice.randrange(len(data)) if choice.random() < 0.5 else 512 * choice.randrange(len(data) // 512) + choice.randrange(512)
        data[place] ^= 1 << choice.randrange(8)
        path = str(tmp_path / "flipped.tar.gz")
        with open(path, "wb") as handle:
            handle.write(gzip.compress(bytes(data), 1))
        try:
            _tree.install(path, packed["trees"])
        except AioError:
            assert not os.path.exists(packed["trees"])
            continue
        accepted += 1
        for name in os.listdir(packed["trees"]):
            assert _tree.problems(os.path.join(packed["trees"], name)) == []
        shutil.rmtree(packed["trees"])
    assert accepted < 150


def test_a_wrong_checksum_is_refused_before_anything_is_read(packed):
    with pytest.raises(AioError, match="checksum is wrong: sha256 [0-9a-f]{64}.*Expected: %s" % ("1" * 64)):
        _tree.install(packed["path"], packed["trees"], sha256="1" * 64)
    assert not os.path.exists(packed["trees"])


def test_another_manifest_or_id_than_asked_for_is_refused(packed):
    with pytest.raises(AioError, match="of another tree"):
        _tree.install(packed["path"], packed["trees"], tree_id=ID[:-1] + "c")
    with pytest.raises(AioError, match="manifest is another one"):
        _tree.install(packed["path"], packed["trees"], manifest_sha256="2" * 64)


def make(tmp_path, words=b"", **more):
    folder = write_tree(tmp_path / "bad", words)
    manifest = _manifest.complete(str(folder), fields(**more))
    path = str(tmp_path / "bad.tar.xz")
    _manifest.write_archive(str(folder), manifest, path)
    return path


def test_another_architecture_is_refused_by_the_manifest_and_by_the_binary_itself(tmp_path):
    other = "s390x" if ARCH != "s390x" else "x86_64"
    with pytest.raises(AioError, match="the QEMU in it is for %s.*Expected: %s" % (other, ARCH)):
        _tree.install(make(tmp_path, architecture=other), str(tmp_path / "trees"))
    shutil.rmtree(tmp_path / "bad")
    folder = write_tree(tmp_path / "lies")
    binary = folder / "bin" / "qemu-system-x86_64"
    data = bytearray(binary.read_bytes())
    data[18:20] = (22).to_bytes(2, "big" if data[5] == 2 else "little")
    binary.write_bytes(bytes(data))
    path = str(tmp_path / "lies.tar.xz")
    _manifest.write_archive(str(folder), _manifest.complete(str(folder), fields()), path)
    with pytest.raises(AioError, match="not for %s as its manifest says" % ARCH):
        _tree.install(path, str(tmp_path / "trees"))
    assert not os.path.exists(tmp_path / "trees")


def test_a_qemu_without_libaio_is_refused_whether_its_manifest_says_so_or_lies(tmp_path):
    with pytest.raises(AioError, match="built without native"):
        _tree.install(make(tmp_path), str(tmp_path / "trees"), engines=["native"])
    shutil.rmtree(tmp_path / "bad")
    with pytest.raises(AioError, match="built without native, though its manifest says otherwise"):
        _tree.install(make(tmp_path, words=ABSENT_MARK, engines=["native"]), str(tmp_path / "trees"), engines=["native"])
    assert not os.path.exists(tmp_path / "trees")


def test_too_little_room_is_told_before_anything_is_written(packed, monkeypatch):
    real = os.statvfs

    class Small:
        f_frsize = 4096
        f_bavail = 10

    monkeypatch.setattr(_tree.os, "statvfs", lambda path: Small)
    with pytest.raises(AioError, match="not enough room to unpack"):
        _tree.install(packed["path"], packed["trees"])
    assert not os.path.exists(packed["trees"])
    monkeypatch.setattr(_tree.os, "statvfs", real)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a file system of its own needs root")
def test_a_really_full_file_system_leaves_nothing_behind(packed, tmp_path, monkeypatch):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(AioError, match="not enough room"):
            _tree.install(packed["path"], str(place / "trees"))
        assert os.listdir(place) == []
        large = make(tmp_path, words=os.urandom(300000))
        monkeypatch.setattr(_tree, "_check_room", lambda *unused: None)
        with pytest.raises(AioError, match="no room left"):
            _tree.install(large, str(place / "trees"))
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_missing_artifact_is_one_clear_message(tmp_path):
    with pytest.raises(AioError, match="there is no such artifact"):
        _tree.install(str(tmp_path / "none.tar.xz"), str(tmp_path / "trees"))


def test_a_tree_that_works_in_one_place_only_is_refused_elsewhere(tmp_path):
    path = make(tmp_path, prefix="/opt/kataops/qemu/" + ID)
    with pytest.raises(AioError, match="works in one place only.*/opt/kataops/qemu/"):
        _tree.install(path, str(tmp_path / "trees"))


def test_removing_takes_only_that_tree(packed):
    _tree.install(packed["path"], packed["trees"])
    os.makedirs(os.path.join(packed["trees"], "mine"))
    _tree.remove(packed["trees"], ID)
    assert os.listdir(packed["trees"]) == ["mine"]
    assert json.dumps(_tree.tree_ids(packed["trees"])) == "[]"


def test_a_dynamic_qemu_is_refused_on_another_distribution(tmp_path):
    path = make(tmp_path, distribution="debian-99")
    with pytest.raises(AioError, match="linked to the libraries of debian-99.*static"):
        _tree.install(path, str(tmp_path / "trees"))
    shutil.rmtree(tmp_path / "bad")
    path = make(tmp_path, distribution=_tree.distribution())
    assert _tree.install(path, str(tmp_path / "trees"))["changed"] is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('PRETTY_NAME="Debian 12"\nID=debian\nVERSION_ID="12"\n', "debian-12"),
        ("ID='rocky'\nVERSION_ID='9.4'\n", "rocky-9.4"),
        ("ID=debian\n", "debian"),
        ("", "unknown"),
    ],
)
def test_a_distribution_is_named_by_os_release(tmp_path, text, expected):
    (tmp_path / "os-release").write_text(text, encoding="utf-8")
    assert _tree.distribution(str(tmp_path / "os-release")) == expected
    assert _tree.distribution(str(tmp_path / "none")) == "unknown"
