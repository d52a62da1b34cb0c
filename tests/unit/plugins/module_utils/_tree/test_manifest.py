# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests from strangers: read in full, or refused in one sentence."""

from __future__ import annotations

import copy
import json
import os

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from hypothesis import given
from hypothesis import strategies as st

GOOD = {
    "schema_version": 1,
    "id": "qemu-7.2+dfsg-7+deb12u18-x86_64-static-26a031052025",
    "version": "7.2.22",
    "architecture": "x86_64",
    "linkage": "static",
    "engines": ["native"],
    "source": {"kind": "distribution", "name": "qemu", "version": "1:7.2", "sha256": "a" * 64},
    "binary": "bin/qemu-system-x86_64",
    "data_dir": "share/kata-qemu/qemu",
    "files": [{"path": "bin/qemu-system-x86_64", "sha256": "b" * 64, "size": 17, "mode": "0755"}],
}


def load(manifest):
    return _manifest.load(json.dumps(manifest).encode(), "here")


def test_a_good_manifest_comes_back_as_it_was():
    assert load(GOOD) == GOOD


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "bin/../../x", "bin//x", "", ".", "bin/.", "bin\\x", "bin/\n", "bin/\x00", None, 5, ["bin"]])
def test_paths_that_could_leave_the_tree_are_refused(path):
    bad = copy.deepcopy(GOOD)
    bad["files"].append({"path": path, "sha256": "b" * 64, "size": 1, "mode": "0644"})
    with pytest.raises(AioError, match="would leave the tree"):
        load(bad)


@pytest.mark.parametrize("tree_id", ["", "qemu", "qemu-", "../qemu-1", "qemu-../x", "qemu-1/../../etc", ".qemu-1", "qemu-1\n", 7, None, "qemu-" + "1" * 200])
def test_ids_that_are_no_single_folders_name_are_refused(tree_id):
    with pytest.raises(AioError, match="not the id|'s id is missing|the manifest's id"):
        load(dict(GOOD, id=tree_id))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema version 2.*Remedy"),
        ({"schema_version": True}, "schema_version is missing or no int"),
        ({"files": {}}, "files is missing or no list"),
        ({"binary": "bin/other"}, "not among its files"),
        ({"files": [GOOD["files"][0], GOOD["files"][0]]}, "names a file twice"),
        ({"files": [dict(GOOD["files"][0], mode="4755")]}, "has the mode '4755'"),
        ({"files": [dict(GOOD["files"][0], mode=0o755)]}, "has the mode"),
        ({"files": [dict(GOOD["files"][0], size=-1)]}, "has no size"),
        ({"files": [dict(GOOD["files"][0], size=True)]}, "has no size"),
        ({"files": [dict(GOOD["files"][0], sha256="B" * 64)]}, "has no sha256"),
        ({"files": ["bin/qemu"]}, "is no object"),
    ],
)
def test_what_a_manifest_may_not_say(change, words):
    with pytest.raises(AioError, match=words):
        load(dict(GOOD, **change))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"7", b'"x"', b" " * (_manifest.MAX_BYTES + 1)])
def test_what_is_no_manifest_is_told(data):
    with pytest.raises(AioError, match="the manifest"):
        _manifest.load(data, "here")


def mutations():
    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
    return st.dictionaries(st.sampled_from(sorted(GOOD) + ["more"]), plain, max_size=4)


@given(mutations())
def test_no_manifest_ends_in_a_traceback(change):
    try:
        found = load(dict(GOOD, **change))
    except AioError as error:
        assert "\n" not in str(error) or "\\n" in repr(str(error))
    else:
        assert found["binary"] in [entry["path"] for entry in found["files"]]


def test_a_link_in_a_tree_that_is_packed_is_refused(tmp_path):
    (tmp_path / "bin").mkdir()
    os.symlink("/etc/passwd", tmp_path / "bin" / "x")
    with pytest.raises(AioError, match="neither a file nor a folder"):
        _manifest.describe(str(tmp_path))


def test_the_bill_of_materials_names_libraries_tools_and_files():
    fields = {
        "id": GOOD["id"],
        "version": "7.2.22",
        "linkage": "static",
        "source": GOOD["source"],
        "source_date_epoch": 1700000000,
        "toolchain": {"libaio-dev": "0.3.113-4", "gcc-12": "12.2.0-14", "libdeflate-devel": None},
    }
    document = _manifest.bill_of_materials(fields, GOOD["files"])
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert {"type": "library", "name": "libaio-dev", "version": "0.3.113-4", "scope": "required"} in document["components"]
    assert [tool["name"] for tool in document["metadata"]["tools"]["components"]] == ["gcc-12"]
    assert [c["hashes"][0]["content"] for c in document["components"] if c["type"] == "file"] == ["b" * 64]
    assert _manifest.dump(document) == _manifest.dump(_manifest.bill_of_materials(fields, GOOD["files"]))
