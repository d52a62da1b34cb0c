# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build is made of decides its identity; what the builder's tools print is read as they print it."""

from __future__ import annotations

import copy
import subprocess

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._build import recipe as _recipe
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

WISHES = {
    "arch": "x86_64",
    "linkage": "static",
    "engines": ["native", "io_uring"],
    "minimal": False,
    "hardening": True,
    "extra": [],
    "source": {"kind": "distribution", "name": "qemu", "version": "1:7.2+dfsg-7+deb12u18", "sha256": "6b" * 32},
    "patch_digests": [],
    "toolchain": {"gcc-12": "12.2.0-14+deb12u1", "libaio-dev": "0.3.113-4"},
}


def identity(**more):
    return _recipe.tree_id(_recipe.inputs(**dict(copy.deepcopy(WISHES), **more)))


def test_an_identity_says_what_it_is_made_of():
    assert identity().startswith("qemu-7.2+dfsg-7+deb12u18-x86_64-static-")
    assert identity(engines=["io_uring", "native"]) == identity()


@pytest.mark.parametrize(
    "more",
    [
        {"linkage": "dynamic"},
        {"engines": ["native"]},
        {"engines": []},
        {"minimal": True},
        {"hardening": False},
        {"extra": ["--enable-vmdk"]},
        {"patch_digests": ["0" * 64]},
        {"arch": "aarch64"},
        {"toolchain": {"gcc-12": "12.2.0-15", "libaio-dev": "0.3.113-4"}},
        {"source": dict(WISHES["source"], sha256="7c" * 32)},
    ],
)
def test_whatever_changes_the_bytes_changes_the_identity(more):
    assert identity(**more) != identity()


def test_the_recipe_itself_is_part_of_the_identity(monkeypatch):
    before = identity()
    monkeypatch.setattr(_recipe, "SCRIPT", _recipe.SCRIPT + "\n")
    assert identity() != before


def test_the_folders_are_no_part_of_it():
    inputs = _recipe.inputs(**WISHES)
    one = _recipe.script(inputs, "/build/one", "/cache/one")
    two = _recipe.script(inputs, "/build/two", "/cache/two")
    assert one != two
    assert "/work" not in _recipe.SCRIPT.replace("$work", "")


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        (["native", "io_uring"], ["--enable-linux-aio", "--enable-linux-io-uring"]),
        (["native"], ["--enable-linux-aio", "--disable-linux-io-uring"]),
        (["io_uring"], ["--disable-linux-aio", "--enable-linux-io-uring"]),
        ([], ["--disable-linux-aio", "--disable-linux-io-uring"]),
    ],
)
def test_an_engine_is_switched_on_or_off_and_never_left_to_chance(engines, expected):
    arguments = _recipe.configure_arguments("x86_64", "static", engines, False, [])
    assert [argument for argument in arguments if "linux-" in argument] == expected
    assert "--static" in arguments
    assert "--static" not in _recipe.configure_arguments("x86_64", "dynamic", engines, False, [])


def test_the_users_arguments_come_last():
    assert _recipe.configure_arguments("x86_64", "static", [], True, ["--a", "--b"])[-2:] == ["--a", "--b"]


def test_a_minimal_build_is_told_from_a_complete_one():
    assert _recipe.is_complete(_recipe.configure_arguments("x86_64", "static", [], False, []))
    assert not _recipe.is_complete(_recipe.configure_arguments("x86_64", "static", [], True, []))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"arch": "riscv64"}, "riscv64: QEMU cannot be built.*aarch64, x86_64"),
        ({"linkage": "both"}, "unknown linkage"),
        ({"engines": ["uring"]}, "uring: unknown engine"),
        ({"source": dict(WISHES["source"], version="1:5.2+dfsg-11")}, "5.2.*Kata needs QEMU 6.1 or newer"),
        ({"source": dict(WISHES["source"], version="6.0.1")}, "Kata needs QEMU 6.1 or newer"),
        ({"source": dict(WISHES["source"], version="latest")}, "Kata needs QEMU 6.1 or newer"),
    ],
)
def test_impossible_wishes_are_told(more, words):
    with pytest.raises(AioError, match=words):
        identity(**more)


@pytest.mark.parametrize("version", ["6.1.0", "1:6.2+dfsg-2ubuntu6", "10.0.3", "11.0.1"])
def test_any_version_from_6_1_on_is_built(version):
    assert version.split(":")[-1] in identity(source=dict(WISHES["source"], version=version))


def test_katas_own_qemu_is_taken_as_it_is():
    source = {"kind": "kata_static", "name": "kata-static-3.8.0", "version": "3.8.0", "sha256": "ab" * 32}
    inputs = _recipe.inputs(**{**WISHES, "source": source})
    assert _recipe.tree_id(inputs).startswith("qemu-kata-3.8.0-x86_64-static-")
    assert inputs["configure"] == []
    assert inputs["toolchain"] == {}
    with pytest.raises(AioError, match="taken as it is"):
        _recipe.inputs(**{**WISHES, "source": source, "patch_digests": ["0" * 64]})


@pytest.mark.parametrize("kind", ["distribution", "kata_static"])
def test_the_script_is_a_shell_script_whatever_the_names_are(kind):
    source = dict(WISHES["source"], kind=kind, name="o'dd \"$(name)\" `x`")
    inputs = _recipe.inputs(**{**WISHES, "source": source})
    text = _recipe.script(inputs, "/build with space/'x'", "/cache", source_path="/a b", patches=["/p 1", "/p'2"], apt_options=["-o", "X=a b"], jobs=3)
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0
    head = text.split("set -euo pipefail", 1)[0]
    shown = subprocess.run(["bash", "-c", head + 'printf "%s|" "$work" "$source_name" "${patches[@]}"'], stdout=subprocess.PIPE, check=True)
    assert shown.stdout.decode() == "/build with space/'x'|%s|/p 1|/p'2|" % source["name"]


LOG = """@@ 1000 source
Reading package lists...
@@ 1010 patches
@@ 1011 configure
[1/2] not ninja yet
@@ 1030 compile
[1/1444] Generating x
[523/1444] Compiling C object y.o
FAILED: [this is no step] z
"""


def test_progress_is_read_from_the_log():
    assert _recipe.progress(LOG) == {"phase": "compile", "phase_started": 1030, "started": 1000, "done": 523, "total": 1444}
    assert _recipe.progress(LOG.split("@@ 1030", 1)[0])["done"] is None
    assert _recipe.progress("") == {"phase": None, "phase_started": None, "started": None, "done": None, "total": None}


def test_sources_of_one_line_each():
    text = "# deb http://x a b\ndeb http://deb.example.org/debian bookworm main\ndeb-src http://deb.example.org/debian bookworm main\n"
    text += "deb [signed-by=/k.gpg arch=amd64] http://other.example.org/ stable main contrib\n"
    assert _recipe.source_stanzas(text, False) == (
        "deb-src http://deb.example.org/debian bookworm main\ndeb-src [signed-by=/k.gpg arch=amd64] http://other.example.org/ stable main contrib\n"
    )


def test_sources_in_stanzas():
    text = (
        "# comment\nTypes: deb\nURIs: http://deb.example.org/debian\nSuites: trixie trixie-updates\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/k.gpg\n"
        "\nEnabled: no\nTypes: deb\nURIs: http://off.example.org\nSuites: x\nComponents: main\n"
        "\nTypes: deb deb-src\nURIs: http://sec.example.org\nSuites: trixie-security\nComponents: main\n"
    )
    found = _recipe.source_stanzas(text, True)
    assert found.count("Types: deb-src\n") == 2
    assert "Types: deb\n" not in found
    assert "off.example.org" not in found
    assert "Signed-By: /usr/share/keyrings/k.gpg" in found


# As apt-cache showsrc prints it (Debian 12; shortened).
SHOWSRC = """Package: qemu
Format: 3.0 (quilt)
Binary: qemu, qemu-system
Version: 1:7.2+dfsg-7+deb12u16
Files:
 0123456789abcdef0123456789abcdef 6780 qemu_7.2+dfsg-7+deb12u16.dsc
Checksums-Sha256:
 1111111111111111111111111111111111111111111111111111111111111111 6780 qemu_7.2+dfsg-7+deb12u16.dsc
 2222222222222222222222222222222222222222222222222222222222222222 24681444 qemu_7.2+dfsg.orig.tar.xz
Homepage: http://www.qemu.org/

Package: qemu
Version: 1:7.2+dfsg-7+deb12u18
Checksums-Sha256:
 2222222222222222222222222222222222222222222222222222222222222222 24681444 qemu_7.2+dfsg.orig.tar.xz
 3333333333333333333333333333333333333333333333333333333333333333 6780 qemu_7.2+dfsg-7+deb12u18.dsc

"""


def test_source_packages_are_read():
    assert _recipe.source_records(SHOWSRC) == [("1:7.2+dfsg-7+deb12u16", "1" * 64), ("1:7.2+dfsg-7+deb12u18", "3" * 64)]
    assert _recipe.source_records("") == []


# As apt-cache policy prints it (Debian 12; shortened).
POLICY = """libaio-dev:
  Installed: (none)
  Candidate: 0.3.113-4
  Version table:
     0.3.113-4 500
        500 http://deb.example.org/debian bookworm/main amd64 Packages
gcc-12:
  Installed: 12.2.0-14
  Candidate: 12.2.0-14+deb12u1
  Version table:
 *** 12.2.0-14 100
meson:
  Installed: (none)
  Candidate: (none)
  Version table:
"""


def test_versions_are_those_installed_else_those_that_would_be():
    assert _recipe.package_versions(POLICY) == {"libaio-dev": "0.3.113-4", "gcc-12": "12.2.0-14", "meson": None}
