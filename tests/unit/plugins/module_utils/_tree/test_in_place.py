# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a QEMU in the place of Kata's own, and back: byte for byte, with a running program left alone."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._tree import in_place as _in_place
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest


def fields(tree_id):
    return {
        "id": tree_id,
        "version": "7.2.22",
        "architecture": os.uname().machine,
        "linkage": "static",
        "engines": [],
        "source": {"kind": "tarball"},
        "binary": "bin/qemu-system-x86_64",
        "data_dir": "share/kata-qemu/qemu",
        "prefix": None,
    }


def make_tree(tmp_path, tree_id, program):
    folder = tmp_path / "trees" / tree_id
    (folder / "bin").mkdir(parents=True)
    shutil.copy(program, folder / "bin" / "qemu-system-x86_64")
    _manifest.complete(str(folder), fields(tree_id))
    return str(folder)


@pytest.fixture
def host(tmp_path):
    kata = tmp_path / "opt" / "kata" / "bin"
    kata.mkdir(parents=True)
    target = kata / "qemu-system-x86_64"
    shutil.copy("/bin/sleep", target)
    target.chmod(0o751)
    os.utime(target, (1000, 1000))
    return {
        "target": target,
        "state": str(tmp_path / "state"),
        "tree": make_tree(tmp_path, "qemu-7.2.22-one", "/bin/true"),
        "other": make_tree(tmp_path, "qemu-7.2.22-two", "/bin/false"),
    }


def look(path):
    status = os.stat(path)
    return (pathlib.Path(path).read_bytes(), status.st_mode, status.st_uid, status.st_mtime, status.st_ino)


def test_there_and_back_byte_for_byte_while_a_sandbox_runs(host):
    before = look(host["target"])
    running = subprocess.Popen([str(host["target"]), "60"])
    try:
        assert _in_place.place(host["tree"], str(host["target"]), host["state"])["changed"] is True
        assert look(host["target"])[0] == pathlib.Path("/bin/true").read_bytes()
        assert look(host["target"])[1] == before[1]
        assert running.poll() is None
        assert _in_place.place(host["tree"], str(host["target"]), host["state"])["changed"] is False
        taken_back = _in_place.take_back(host["state"])
        assert (taken_back["changed"], taken_back["restored"], taken_back["left"]) == (True, [str(host["target"])], {})
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert look(host["target"]) == before
    assert os.listdir(host["target"].parent) == ["qemu-system-x86_64"]
    assert _in_place.take_back(host["state"])["changed"] is False


def test_check_mode_changes_nothing(host):
    before = look(host["target"])
    assert _in_place.place(host["tree"], str(host["target"]), host["state"], check_mode=True)["changed"] is True
    assert look(host["target"]) == before
    assert not os.path.exists(host["state"])


def test_a_second_tree_goes_back_to_what_kata_had(host):
    before = look(host["target"])
    _in_place.place(host["tree"], str(host["target"]), host["state"])
    _in_place.place(host["other"], str(host["target"]), host["state"])
    assert look(host["target"])[0] == pathlib.Path("/bin/false").read_bytes()
    _in_place.take_back(host["state"])
    assert look(host["target"]) == before


def test_what_katas_installer_wrote_since_is_left_alone(host):
    _in_place.place(host["tree"], str(host["target"]), host["state"])
    newer = host["target"].with_name("newer")
    shutil.copy("/bin/cat", newer)
    os.rename(newer, host["target"])
    since = look(host["target"])
    taken_back = _in_place.take_back(host["state"])
    assert taken_back["restored"] == []
    assert "somebody else has replaced it" in taken_back["left"][str(host["target"])]
    assert look(host["target"]) == since
    assert os.listdir(host["target"].parent) == ["qemu-system-x86_64"]


def test_after_katas_installer_the_new_original_is_what_is_kept(host):
    _in_place.place(host["tree"], str(host["target"]), host["state"])
    newer = host["target"].with_name("newer")
    shutil.copy("/bin/cat", newer)
    os.rename(newer, host["target"])
    since = look(host["target"])
    assert _in_place.place(host["tree"], str(host["target"]), host["state"])["changed"] is True
    _in_place.take_back(host["state"])
    assert look(host["target"]) == since


def test_a_link_is_followed_and_stays_a_link(host):
    link = host["target"].with_name("qemu")
    os.symlink("qemu-system-x86_64", link)
    assert _in_place.place(host["tree"], str(link), host["state"])["target"] == str(host["target"])
    assert os.readlink(link) == "qemu-system-x86_64"


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
def test_what_is_no_qemu_is_not_replaced(host, kind):
    place = host["target"].with_name("other")
    if kind == "folder":
        place.mkdir()
    elif kind == "not executable":
        place.touch(0o644)
    with pytest.raises(AioError, match="no QEMU to replace|no executable file"):
        _in_place.place(host["tree"], str(place), host["state"])
    assert not os.path.exists(host["state"])


def test_a_wrapper_cannot_be_put_elsewhere(host, tmp_path):
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\nexec "${0%/*}/../libexec/x" "$@"\n', encoding="ascii")
    script.chmod(0o755)
    tree = make_tree(tmp_path, "qemu-kata-3.8.0-three", str(script))
    with pytest.raises(AioError, match="started by a wrapper"):
        _in_place.place(tree, str(host["target"]), host["state"])
