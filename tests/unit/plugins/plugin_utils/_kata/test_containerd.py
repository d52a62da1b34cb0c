# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import cri as containerd
from hypothesis import given, settings
from hypothesis import strategies as st

V1 = '[plugins.cri.containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\noptions = { ConfigPath = "/c" }\n'
KATA = {"runtime_type": "io.containerd.kata.v2", "runtime_path": None, "config_path": "/c"}


@pytest.mark.parametrize(
    "text",
    [
        V1,
        "version = 1\n" + V1,
        "version = 2\n" + V1.replace("plugins.cri.", 'plugins."io.containerd.grpc.v1.cri".'),
        "version = 3\n" + V1.replace("plugins.cri.", "plugins.'io.containerd.cri.v1.runtime'."),
        "version = 4\n" + V1.replace("plugins.cri.", "plugins.'io.containerd.cri.v1.runtime'."),
    ],
)
def test_versions(text):
    document, problems = containerd.read(text, "/f")
    assert (containerd.containerd_runtimes([document]), problems) == ({"kata": KATA}, [])


def test_later_documents_win_key_by_key():
    first = containerd.read(V1, "/a")[0]
    second = containerd.read('[plugins.cri.containerd.runtimes.kata.options]\nConfigPath = "/d"\n', "/b")[0]
    assert containerd.containerd_runtimes([first, second]) == {"kata": dict(KATA, config_path="/d")}
    assert containerd.containerd_runtimes([first]) == {"kata": KATA}, "the documents themselves are left alone"


def test_crio_replaces_whole_tables():
    first = containerd.read('[crio.runtime.runtimes.kata]\nruntime_type = "vm"\nruntime_config_path = "/c"\n', "/a")[0]
    second = containerd.read('[crio.runtime.runtimes.kata]\nruntime_type = "vm"\nruntime_path = "/p"\n', "/b")[0]
    assert containerd.crio_runtimes([first, second]) == {"kata": {"runtime_type": "vm", "runtime_path": "/p", "config_path": None}}


@pytest.mark.parametrize(
    "cri, kind, path, config, answer",
    [
        ("containerd", "io.containerd.kata.v2", None, None, True),
        ("containerd", "io.containerd.kata-qemu-runtime-rs.v2", None, None, True),
        ("containerd", "io.containerd.runc.v2", None, None, False),
        ("containerd", "io.containerd.runsc.v1", "/usr/bin/containerd-shim-runsc-v1", None, False),
        ("containerd", "io.containerd.odd.v2", "/opt/kata/bin/containerd-shim-kata-v2", None, True),
        ("containerd", "/opt/kata/bin/containerd-shim-kata-v2", None, None, True),
        ("containerd", "io.containerd.vm.v2", None, "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml", True),
        ("crio", "vm", "/usr/bin/containerd-shim-kata-v2", None, True),
        ("crio", "vm", "/usr/bin/wrapper", None, True),
        ("crio", "vm", "/usr/bin/containerd-shim-runsc-v1", None, False),
        ("crio", "oci", "/usr/bin/kata-runtime", None, False),
    ],
)
def test_is_kata(cri, kind, path, config, answer):
    assert bool(containerd.is_kata(cri, {"runtime_type": kind, "runtime_path": path, "config_path": config})) is answer


@pytest.mark.parametrize(
    "kind, name",
    [
        ("io.containerd.kata-qemu.v2", "containerd-shim-kata-qemu-v2"),
        ("io.containerd.a.b.kata.v2", "containerd-shim-kata-v2"),
        ("runc", None),
        (None, None),
    ],
)
def test_shim_name(kind, name):
    assert containerd.shim_name(kind) == name


def test_imports():
    assert containerd.import_patterns({}, "/etc/c/config.toml") is None
    assert containerd.import_patterns({"imports": ["a.toml", "/b/*.toml", "../d.toml", 3, ""]}, "/etc/c/config.toml") == [
        "/etc/c/a.toml",
        "/b/*.toml",
        "/etc/d.toml",
    ]


def test_templates_keep_line_numbers():
    text, partly = containerd.without_templates('{{ template "base" . }}\na = 1\n{{- if .X }}\nb = "{{ .Y }}"\n{{ end -}}\n')
    assert (text, partly) == ("\na = 1\n\n\n\n", True)
    document, problems = containerd.read("{{ x }}\na = \n", "/t")
    assert document == {}
    assert [problem["code"] for problem in problems] == ["cri_template", "cri_toml_invalid"]
    assert "line 2" in problems[1]["detail"]


@pytest.mark.parametrize(
    "document",
    [
        {"plugins": 1},
        {"plugins": {"cri": []}},
        {"plugins": {"cri": {"containerd": {"runtimes": {"kata": 3}}}}},
        {"plugins": {"cri": {"containerd": {"runtimes": {"kata": {"runtime_type": 1, "options": "x"}}}}}},
        {"crio": {"runtime": {"runtimes": [1]}}},
        {"imports": "x"},
    ],
)
def test_wrong_shapes_are_no_runtimes(document):
    runtimes = dict(containerd.containerd_runtimes([document]), **containerd.crio_runtimes([document]))
    assert not any(containerd.is_kata("containerd", runtime) for runtime in runtimes.values())
    assert not containerd.import_patterns(document, "/f")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_told(text):
    document, problems = containerd.read(text, "/f")
    assert isinstance(document, dict)
    assert all(problem["where"] == "/f" for problem in problems)
