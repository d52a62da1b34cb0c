# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU as a file: kinds, wrappers, packages and origins."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._qemu import file as _qemu_file


def test_what_is_missing_or_no_program(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "cut").write_bytes(b"\x7fELF\x02\x01")
    for name, status in (
        ("gone", "missing"),
        ("dangling", "missing"),
        ("text/below", "missing"),
        ("loop", "unreadable"),
        ("fifo", "unreadable"),
        (".", "unreadable"),
        ("text", "not_qemu"),
        ("empty", "not_qemu"),
        ("cut", "not_qemu"),
    ):
        seen = _qemu_file.look_at(str(tmp_path / name))
        assert seen["status"] == status, name
        assert str(tmp_path) in seen["reason"]


def test_no_execute_permission(tmp_path):
    shutil.copy("/bin/true", tmp_path / "qemu")
    os.chmod(tmp_path / "qemu", 0o644)
    seen = _qemu_file.look_at(str(tmp_path / "qemu"))
    assert (seen["status"], seen["kind"], seen["elf"].linkage) == ("not_executable", "elf", "dynamic")


def test_a_foreign_architecture_and_a_wrapper_of_one(tmp_path):
    data = bytearray(Path("/bin/true").read_bytes())
    data[18:20] = (258 if os.uname().machine != "loongarch64" else 183).to_bytes(2, "little")
    foreign = tmp_path / "qemu-system-x86_64"
    foreign.write_bytes(bytes(data))
    foreign.chmod(0o755)
    wrapper = tmp_path / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec %s "$@" -L /x\n' % foreign)
    wrapper.chmod(0o755)
    for path in (foreign, wrapper):
        seen = _qemu_file.look_at(str(path))
        assert seen["status"] == "foreign_architecture"
        assert seen["real_path"] == str(foreign)
    assert seen["wrapper"] == {"path": str(wrapper), "target": str(foreign), "data_dirs": ["/x"]}


def test_a_wrapper_whose_target_is_gone(tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec %s/qemu-real "$@"\n' % tmp_path)
    wrapper.chmod(0o755)
    seen = _qemu_file.look_at(str(wrapper))
    assert seen["status"] == "missing"
    assert "qemu-real" in seen["reason"]


# (path, real path, package, words of QEMU's greeting, origin)
ORIGINS = [
    ("/opt/kata/bin/qemu-system-x86_64", "/opt/kata/bin/qemu-system-x86_64", None, "", "kata_static"),
    ("/usr/local/bin/q", "/data/opt/kata-two/bin/qemu-system-x86_64", None, "", "kata_static"),
    ("/srv/q", "/srv/q", None, "kata-static", "kata_static"),
    ("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64", "qemu-system-x86 1:7.2", "Debian 1:7.2", "distribution"),
    ("/snap/bin/qemu-system-x86_64", "/usr/bin/snap", None, None, "snap"),
    ("/opt/kataops/qemu/8.2.4-1f/bin/qemu-system-x86_64", "/opt/kataops/qemu/8.2.4-1f/bin/qemu-system-x86_64", None, "kata-static", "kataops"),
    ("/srv/q", "/srv/q", None, "", "other"),
    ("/gone", None, None, None, None),
]


@pytest.mark.parametrize(("path", "real_path", "package", "words", "origin"), ORIGINS)
def test_origin(path, real_path, package, words, origin):
    assert _qemu_file.origin_of(path, real_path, package, words) == origin


def test_the_owner_is_found_in_dpkgs_own_files(tmp_path):
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "qemu-system-x86.list").write_text("/.\n/usr/bin\n/usr/bin/qemu-system-x86_64\n")
    (info / "qemu-system-common:amd64.list").write_text("/.\n/bin/kvm\n")
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: libc6\nVersion: 2.36\n\nPackage: qemu-system-common\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:7.2+a\n\n"
        "Package: qemu-system-x86\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:7.2+b\n"
    )
    assert _qemu_file.package_of("/usr/bin/qemu-system-x86_64", str(tmp_path)) == "qemu-system-x86 1:7.2+b"
    # Installed before the merge of /usr.
    assert _qemu_file.package_of("/usr/bin/kvm", str(tmp_path)) == "qemu-system-common 1:7.2+a"
    assert _qemu_file.package_of("/usr/bin/other", str(tmp_path)) is None
    assert _qemu_file.package_of("/opt/kata/bin/qemu-system-x86_64", str(tmp_path)) is None


@pytest.mark.skipif(shutil.which("dpkg-query") is None or not os.path.exists("/usr/bin/qemu-system-x86_64"), reason="no Debian QEMU here")
def test_the_real_owner_is_dpkgs():
    import subprocess

    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "qemu-system-x86"], capture_output=True, text=True, check=True).stdout
    assert _qemu_file.package_of(os.path.realpath("/usr/bin/qemu-system-x86_64")) == "qemu-system-x86 " + version
