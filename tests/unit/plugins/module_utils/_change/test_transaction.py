# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions: what is compared, what is kept of a file, and what is refused. Crashes and full disks: tests/integration_lab/test_kata_config_faults.py."""

from __future__ import annotations

import base64
import hashlib
import os
import struct

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import files, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

ABOUT = {"tool": "test", "kind": "change"}
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in [(1, 6, 2**32 - 1), (2, 4, 4321), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)]
)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def change(path, content, **more):
    return dict(
        {"kind": "file", "name": str(path), "expected_sha256": digest(path), "content_b64": None if content is None else base64.b64encode(content).decode()},
        **more,
    )


@pytest.fixture
def apply(tmp_path):
    return lambda *changes: transaction.transact(Journal(str(tmp_path / "state")), list(changes), ABOUT)


@pytest.fixture
def kata(tmp_path):
    folder = tmp_path / "kata"
    folder.mkdir()
    (folder / "base.toml").write_bytes(b"old\n")
    return folder


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_the_temporary_name_is_never_in_config_d(apply, kata, monkeypatch):
    seen = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new: (seen.append((old, new)), rename(old, new)))
    apply(change(kata / "config.d" / "60-x.toml", b"x\n"))
    (staged,) = [old for old, new in seen if new.endswith("60-x.toml")]
    assert os.path.dirname(staged) == str(kata) and os.path.basename(staged).startswith(".kataops-aio-")
    assert names(kata) == ["60-x.toml", "base.toml", "config.d"]
    assert (kata / "config.d").stat().st_mode & 0o7777 == 0o755


def test_a_new_file_ignores_the_umask_and_an_old_one_keeps_its_mode(apply, kata):
    (kata / "base.toml").chmod(0o4640)
    old = os.umask(0o077)
    try:
        apply(change(kata / "base.toml", b"new\n"), change(kata / "config.d" / "a.toml", b"a\n"), change(kata / "b.toml", b"b\n", mode="0600"))
    finally:
        os.umask(old)
    assert [oct((kata / name).stat().st_mode & 0o7777) for name in ("base.toml", "config.d/a.toml", "b.toml", "config.d")] == [
        "0o4640",
        "0o644",
        "0o600",
        "0o755",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_owner_is_kept(apply, kata):
    os.chown(kata / "base.toml", 4321, 1234)
    apply(change(kata / "base.toml", b"new\n"))
    assert ((kata / "base.toml").stat().st_uid, (kata / "base.toml").stat().st_gid) == (4321, 1234)


@pytest.mark.parametrize(
    ("name", "value"),
    [("user.note", b"mine"), ("system.posix_acl_access", ACL), ("security.selinux", b"system_u:object_r:etc_t:s0\0"), ("security.capability", None)],
)
def test_extended_attributes_are_kept(apply, kata, name, value):
    if value is None:
        value = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    try:
        os.setxattr(kata / "base.toml", name, value)
    except OSError as exc:
        pytest.skip("%s cannot be set here: %s" % (name, exc))
    apply(change(kata / "base.toml", b"new\n"))
    assert (kata / "base.toml").read_bytes() == b"new\n"
    assert os.getxattr(kata / "base.toml", name) == value


def test_a_new_file_has_the_selinux_type_of_its_folder(apply, kata):
    (kata / "config.d").mkdir()
    try:
        os.setxattr(kata / "config.d", "security.selinux", b"system_u:object_r:kata_d_t:s0\0")
    except OSError as exc:
        pytest.skip("a context cannot be set here: %s" % exc)
    apply(change(kata / "config.d" / "a.toml", b"a\n"))
    assert os.getxattr(kata / "config.d" / "a.toml", "security.selinux") == b"system_u:object_r:kata_d_t:s0\0"


def test_an_inherited_acl_does_not_come_along(apply, kata):
    try:
        os.setxattr(kata, "system.posix_acl_default", ACL)
    except OSError as exc:
        pytest.skip("an ACL cannot be set here: %s" % exc)
    apply(change(kata / "base.toml", b"new\n"))
    assert "system.posix_acl_access" not in os.listxattr(kata / "base.toml")


def test_no_change_leaves_no_trace(apply, kata, tmp_path):
    (kata / "base.toml").chmod(0o644)
    assert apply(change(kata / "base.toml", b"old\n"), change(kata / "none.toml", None)) == {
        "changed": False,
        "seq": None,
        "cautions": [],
        "recovered": [],
    }
    assert Journal(str(tmp_path / "state")).entries() == []
    assert apply(change(kata / "base.toml", b"old\n", mode="0600"))["changed"] is True
    assert (kata / "base.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("expected", [None, "0" * 64])
def test_all_are_compared_before_any_is_written(apply, kata, expected):
    wrong = dict(change(kata / "base.toml", b"new\n"), expected_sha256=expected)
    with pytest.raises(AioError, match="another process changed this in the meantime"):
        apply(change(kata / "config.d" / "a.toml", b"a\n"), wrong)
    assert names(kata) == ["base.toml"] and (kata / "base.toml").read_bytes() == b"old\n"
    with pytest.raises(AioError, match="but there is now no file"):
        apply(dict(change(kata / "gone.toml", b"x\n"), expected_sha256="0" * 64))


def plant(kind, path):
    if kind == "symlink":
        path.symlink_to("base.toml")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"#" * (files.MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("kind", "words"), [("symlink", "is a symlink"), ("fifo", "not a regular file"), ("folder", "not a regular file"), ("large", "has \\d+ bytes")]
)
def test_what_is_no_configuration_file_is_refused(apply, kata, kind, words):
    plant(kind, kata / "odd.toml")
    with pytest.raises(AioError, match=words):
        apply({"kind": "file", "name": str(kata / "odd.toml"), "expected_sha256": None, "content_b64": "eA=="})
    assert names(kata) == ["base.toml", "odd.toml"]


@pytest.mark.parametrize("path", ["base.toml", "/x/../etc/base.toml", "/x//y"])
def test_paths_that_are_refused(apply, path):
    with pytest.raises(AioError, match="must be absolute"):
        apply({"kind": "file", "name": path, "expected_sha256": None, "content_b64": "eA=="})


def test_folders_that_are_not_made(apply, kata):
    (kata / "file").write_bytes(b"")
    (kata / "deep").mkdir()
    (kata / "deep" / "config.d").symlink_to("nowhere")
    for folder in (kata / "other.d", kata / "missing" / "config.d", kata / "deep" / "config.d"):
        with pytest.raises(AioError, match="this is not a folder"):
            apply(change(folder / "a.toml", b"a\n"))
    with pytest.raises(AioError, match="this is not a folder"):
        apply({"kind": "file", "name": str(kata / "file" / "a.toml"), "expected_sha256": None, "content_b64": "eA=="})
    with pytest.raises(AioError, match="not base64"):
        apply({"kind": "file", "name": str(kata / "a.toml"), "expected_sha256": None, "content_b64": "*"})
    with pytest.raises(AioError, match="twice in one transaction"):
        apply(change(kata / "a.toml", b"a\n"), change(kata / "a.toml", b"b\n"))


def test_our_folder_goes_only_when_it_is_empty(apply, kata):
    apply(change(kata / "config.d" / "a.toml", b"a\n"))
    (kata / "config.d" / "theirs.toml").write_bytes(b"t\n")
    apply(change(kata / "config.d" / "a.toml", None, remove_folders=[str(kata / "config.d")]))
    assert names(kata) == ["base.toml", "config.d", "theirs.toml"]


def test_the_lock_is_held_against_others(apply, kata, tmp_path, monkeypatch):
    monkeypatch.setattr("ansible_collections.kataops.aio.plugins.module_utils._change.journal.LOCK_SECONDS", 0.3)
    with Journal(str(tmp_path / "state")).lock(), pytest.raises(AioError, match="another run has held the journal"):
        apply(change(kata / "base.toml", b"new\n"))
    assert apply(change(kata / "base.toml", b"new\n"))["changed"]
