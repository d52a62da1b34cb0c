# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libaio on a host: this machine as it is, and hosts of other distributions as their commands print (recorded forms; no RPM host is at hand)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import libaio as _libaio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Debian 13: the renamed library, beside a 32-bit one
LDCONFIG_T64 = """\
412 libs found in cache `/etc/ld.so.cache'
\tlibaio.so.1t64 (libc6,x86-64) => /lib/x86_64-linux-gnu/libaio.so.1t64
\tlibaio.so.1 (libc6) => /lib/i386-linux-gnu/libaio.so.1
\tlibaio.so (libc6,x86-64) => /lib/x86_64-linux-gnu/libaio.so
\tlibaiofoo.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libaiofoo.so.1
"""
DPKG_SEARCH = """\
diversion by libaio-local from: /usr/lib/x86_64-linux-gnu/libaio.so.1
libaio1:amd64, libaio1:i386: /usr/share/doc/libaio1
libaio1:amd64: /usr/lib/x86_64-linux-gnu/libaio.so.1
"""
RPM_OWNER = "libaio\t0.3.111-13.el9\n"
RPM_NOT_OWNED = "file /usr/lib64/libaio.so.1 is not owned by any package\n"

mutations = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.text(max_size=20)), max_size=6)


def test_parse_ldconfig():
    assert _libaio.parse_ldconfig(LDCONFIG_T64) == ["/lib/x86_64-linux-gnu/libaio.so.1t64", "/lib/i386-linux-gnu/libaio.so.1"]


def test_parse_dpkg_search():
    assert _libaio.parse_dpkg_search(DPKG_SEARCH) == {
        "/usr/share/doc/libaio1": "libaio1:amd64",
        "/usr/lib/x86_64-linux-gnu/libaio.so.1": "libaio1:amd64",
    }


def test_parse_rpm_owner():
    assert _libaio.parse_rpm_owner(RPM_OWNER) == ("libaio", "0.3.111-13.el9")
    assert _libaio.parse_rpm_owner(RPM_NOT_OWNED) is None
    assert _libaio.parse_rpm_owner("") is None


def test_this_machine_is_described_by_its_own_package_manager():
    libaio = _libaio.observe_libaio()
    assert list(libaio) == ["runtime", "headers", "linker_name", "static_archive", "builds", "package_manager", "evidence"]
    for name in ("runtime", "headers", "linker_name", "static_archive"):
        part = libaio[name]
        assert part["present"] == (part["path"] is not None) == os.path.isfile(part["path"] or "/nonexistent")
        assert (part["package"] is None) == (part["reason"] is not None)
        if part["package"] and shutil.which("dpkg-query"):
            shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", part["package"]], stdout=subprocess.PIPE, text=True, check=True).stdout
            assert shown == part["version"]
            listed = subprocess.run(["dpkg-query", "-L", part["package"]], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
            assert os.path.basename(part["path"]) in [os.path.basename(path) for path in listed]


class Host:
    """A host of another distribution: its files below ``root``, and commands that print what such a host's do."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        self._files = {}
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setattr(_libaio, "_candidates", self._candidates)
        real_run = _libaio.run
        monkeypatch.setattr(_libaio, "run", lambda argv: real_run([str(self.bin / argv[0]), *argv[1:]]))

    def _candidates(self, folders, name):
        return [path for path in self._files if os.path.basename(path) == name]

    def file(self, path, content=b""):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self._files[str(target)] = target
        return str(target)

    def command(self, name, script):
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def own_elf_head(machine=None):
    with open("/proc/self/exe", "rb") as stream:
        head = stream.read(20)
    return head if machine is None else head[:18] + machine


def test_an_rpm_host(host, monkeypatch):
    monkeypatch.setattr(_libaio.os.path, "getsize", lambda path: 0)  # no dpkg database
    library = host.file("/usr/lib64/libaio.so.1", own_elf_head())
    host.file("/usr/include/libaio.h")
    host.command("ldconfig", "printf '1 libs found\\n\\tlibaio.so.1 (libc6,x86-64) => %s\\n'\n" % library)
    host.command(
        "rpm",
        '[ "$1" = --version ] && exit 0\n'
        "case $4 in *libaio.so.1) printf 'libaio\\t0.3.111-13.el9\\n';; *) echo \"file $4 is not owned by any package\"; exit 1;; esac\n",
    )
    libaio = _libaio.observe_libaio()
    assert libaio["package_manager"] == "rpm"
    assert libaio["runtime"] == {
        "present": True,
        "path": library,
        "package": "libaio",
        "version": "0.3.111-13.el9",
        "reason": None,
        "soname": "libaio.so.1",
    }
    assert libaio["headers"]["package"] is None and "No package of rpm owns" in libaio["headers"]["reason"]
    assert libaio["builds"] == {
        "dynamic": {"ok": False, "missing": ["libaio.so"]},
        "static": {"ok": False, "missing": ["libaio.a"]},
    }


def test_a_host_with_nothing_at_all(host, monkeypatch):
    monkeypatch.setattr(_libaio.os.path, "getsize", lambda path: 0)  # no dpkg database
    libaio = _libaio.observe_libaio()
    assert [libaio[name]["present"] for name in ("runtime", "headers", "linker_name", "static_archive")] == [False] * 4
    assert libaio["runtime"]["soname"] is None and "dynamic loader" in libaio["runtime"]["reason"]
    assert libaio["package_manager"] is None
    assert libaio["builds"]["dynamic"]["missing"] == ["libaio.h", "libaio.so", "libaio.so.1 or libaio.so.1t64"]


def test_a_library_of_another_architecture_is_not_this_hosts(host):
    foreign = host.file("/lib/i386-linux-gnu/libaio.so.1", own_elf_head(b"\x03\x00"))
    own = host.file("/lib/x86_64-linux-gnu/libaio.so.1t64", own_elf_head())
    host.command("ldconfig", "printf '\\tlibaio.so.1 (libc6) => %s\\n\\tlibaio.so.1t64 (libc6,x86-64) => %s\\n'\n" % (foreign, own))
    runtime = _libaio.observe_libaio()["runtime"]
    assert (runtime["path"], runtime["soname"]) == (own, "libaio.so.1t64")


def test_without_ldconfig_the_standard_folders_are_looked_through(host):
    own = host.file("/usr/lib64/libaio.so.1", own_elf_head())
    assert _libaio.observe_libaio()["runtime"]["path"] == own


def test_a_command_that_hangs_is_ended(host, monkeypatch):
    monkeypatch.setattr(_libaio, "COMMAND_SECONDS", 0.3)
    host.command("ldconfig", "exec /bin/sleep 60\n")
    assert _libaio.run(["ldconfig", "-p"]) == (None, "")


def test_commands_speak_the_c_locale(host, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    host.command("tell", "echo $LC_ALL $LANGUAGE\n")
    assert _libaio.run(["tell"]) == (0, "C C\n")


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=st.sampled_from((LDCONFIG_T64, DPKG_SEARCH, RPM_OWNER, "")), changes=mutations)
def test_the_parsers_take_anything(sample, changes):
    for position, cut, new in changes:
        at = position % (len(sample) + 1)
        sample = sample[:at] + new + sample[at + cut :]
    assert all(path.startswith("/") for path in _libaio.parse_ldconfig(sample))
    assert all(path.startswith("/") for path in _libaio.parse_dpkg_search(sample))
    owner = _libaio.parse_rpm_owner(sample)
    assert owner is None or all(owner)
