# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dpkg's own files are read as dpkg-query reads them."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import packages as _dpkg

STATUS = """\
Package: libaio1
Status: install ok installed
Architecture: i386
Version: 0.3.112-9

Package: libaio-dev
Status: install ok installed
Architecture: amd64
Version: 0.3.113-4
Depends: libaio1 (= 0.3.113-4)
Description: Package: libaio1

Package: libaio1
Status: install ok installed
Architecture: amd64
Version: 0.3.113-4

Package: libaio-old
Status: deinstall ok config-files
Architecture: amd64
Version: 0.3.100-1
"""


@pytest.fixture
def root(tmp_path):
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    (info / "libaio1:amd64.list").write_text("/.\n/lib/x/libaio.so.1\n")
    (info / "libaio1:i386.list").write_text("/.\n/lib/i/libaio.so.1\n")
    (info / "libaio-dev:amd64.list").write_text("/.\n/usr/include/libaio.h\n")
    (info / "libaio-old.list").write_text("/lib/x/libaio.so.0\n")
    (info / "other.list").write_text("/usr/bin/other\n")
    (info / "libaio1:amd64.md5sums").write_text("0 usr/bin/other\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/usr/include/libaio.h", ("libaio-dev:amd64", "0.3.113-4")),
        ("/usr/lib/x/libaio.so.1", ("libaio1:amd64", "0.3.113-4")),  # listed as /lib, before the merge of /usr
        ("/lib/i/libaio.so.1", ("libaio1:i386", "0.3.112-9")),
        ("/lib/x/libaio.so.0", None),  # only its configuration is left
        ("/usr/bin/other", None),  # its package has another name
    ],
)
def test_owners(root, path, owner):
    assert _dpkg.owners([path], "libaio*", root).get(path) == owner


def test_versions(root):
    assert _dpkg.versions(["libaio1:amd64", "libaio1:i386", "libaio-old", "nonesuch"], root) == {
        "libaio1:amd64": "0.3.113-4",
        "libaio1:i386": "0.3.112-9",
        "libaio-old": None,
        "nonesuch": None,
    }


def test_a_host_without_dpkg(tmp_path):
    assert _dpkg.owners(["/usr/bin/a"], "*", str(tmp_path)) == {}
    assert _dpkg.versions(["a"], str(tmp_path)) == {"a": None}


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg here")
def test_this_machine_as_dpkg_query_says():
    paths = [path for path in sorted(glob.glob("/usr/bin/dpkg*")) if os.path.isfile(path)]
    found = _dpkg.owners(paths, "dpkg*")
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${binary:Package}\\t${Version}\\n", "dpkg*"], capture_output=True, text=True, check=True).stdout
    known = dict(line.split("\t") for line in shown.splitlines())
    assert "/usr/bin/dpkg" in found
    for path, (name, version) in found.items():
        listed = subprocess.run(["dpkg-query", "-L", name], capture_output=True, text=True, check=True).stdout.splitlines()
        assert path in listed
        assert version == known[name]
