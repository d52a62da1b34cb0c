# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host half of discovery: harmless, bounded, and in data whatever a host holds. What it finds: test_discover.py."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._kata import files, hints, shims
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.tests.fixtures.layouts import layouts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHARE = "/opt/kata/share/defaults/kata-containers"


def texts(kata):
    return json.loads(zlib.decompress(base64.b64decode(kata["texts_z"])))


# --- files -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, text",
    [
        (b"# a\nb = 1 # c\n\n  \t# d\r\n", "\nb = 1 # c\n\n\n"),
        (b"a = '''\n# not a comment\n'''\n", "a = '''\n# not a comment\n'''\n"),
        (b'a = """\n# not a comment\n"""\n', 'a = """\n# not a comment\n"""\n'),
        (b"# bad \x00 byte\n", "# bad \x00 byte\n"),
        (b"# lone \r return\n", "# lone \r return\n"),
        ("# Gr\u00fc\u00dfe\n\ufeff# x\n".encode(), "\n\ufeff# x\n"),
        (b"", ""),
    ],
)
def test_strip_text(data, text):
    assert files.strip_text(data) == (text, None)


def test_strip_text_of_no_utf_8():
    assert files.strip_text(b"a = 1\n\xff") == (None, "invalid UTF-8 at byte 6")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
@settings(deadline=None)
@given(st.text(alphabet="a=1\n\r\t #'\"[]\x00\x07\u00fc\\", max_size=60))
def test_stripping_never_changes_what_toml_says(text):
    import tomllib

    def read(what):
        try:
            return tomllib.loads(what)
        except tomllib.TOMLDecodeError:
            return "invalid"

    stripped, reason = files.strip_text(text.encode())
    assert reason is None
    assert read(stripped) == read(text)
    assert stripped.count("\n") == text.count("\n")


def test_links_are_followed_inside_the_root_only(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/up").symlink_to("../../../../b")
    (tmp_path / "b").write_text("inside")
    (tmp_path / "absolute").symlink_to("/a/up")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    tree = files.Tree(str(tmp_path))
    assert tree.resolve("/absolute") == ("/b", None)
    assert tree.resolve("/a/../b") == ("/b", None)
    assert os.strerror(tree.resolve("/loop")[1].errno) == "Too many levels of symbolic links"
    assert tree.resolve("/dangling")[1].strerror == "No such file or directory"
    assert tree.resolve("/b/c")[1].strerror == "Not a directory"
    assert tree.resolve("/with\0nul")[0] is None


def test_glob(tmp_path):
    for name in ("x/a.toml", "x/b.toml", "x/.c.toml", "y/a.toml"):
        layouts.put(tmp_path, "/" + name, "")
    tree = files.Tree(str(tmp_path))
    assert tree.glob("/x/*.toml") == ["/x/.c.toml", "/x/a.toml", "/x/b.toml"]
    assert tree.glob("/*/a.toml") == ["/x/a.toml", "/y/a.toml"]
    assert tree.glob("/x/[^a]*.toml") == ["/x/.c.toml", "/x/b.toml"]
    assert tree.glob("/none/*") == tree.glob("/x/a.toml/*") == []


def test_what_is_no_regular_file_is_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    listener.bind("socket")
    (tmp_path / "folder").mkdir()
    tree = files.Tree(str(tmp_path))
    documents = files.Documents(tree)
    monkeypatch.setattr(os, "open", lambda *args, **more: pytest.fail("opened %s" % args[0]))
    for name in ("fifo", "socket", "folder"):
        documents.add("/" + name)
    assert {path: (document["kind"], document["sha256"]) for path, document in documents.by_path.items()} == {
        "/fifo": ("fifo", None),
        "/socket": ("socket", None),
        "/folder": ("directory", None),
    }
    listener.close()


def test_a_fifo_that_takes_a_files_place_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "f")
    tree = files.Tree(str(tmp_path))
    before = os.stat_result((stat.S_IFREG | 0o644, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    monkeypatch.setattr(tree, "lstat", lambda path: (before, None))
    start = time.monotonic()
    assert tree.read("/f")[2] == "not a regular file (fifo)"
    assert time.monotonic() - start < 1


def test_bounds(tmp_path, monkeypatch):
    layouts.put(tmp_path, "/big.toml", "#" * (files.MAX_FILE + 1))
    layouts.put(tmp_path, "/fits.toml", "#" * files.MAX_FILE)
    for number in range(5):
        layouts.put(tmp_path, "/many/%d.toml" % number, "a = %d\n" % number)
    tree = files.Tree(str(tmp_path))
    documents = files.Documents(tree)
    documents.add("/big.toml")
    documents.add("/fits.toml")
    assert documents.by_path["/big.toml"]["reason"] == "larger than 1048576 bytes"
    assert documents.by_path["/fits.toml"]["reason"] is None
    monkeypatch.setattr(files, "MAX_DOCUMENTS", 4)
    monkeypatch.setattr(files, "MAX_TEXT", 8)
    documents = files.Documents(tree)
    kept = [documents.add("/many/%d.toml" % number) for number in range(5)]
    assert kept == ["/many/0.toml", "/many/1.toml", "/many/2.toml", "/many/3.toml", None]
    assert documents.limits == ["more than 8 characters of configuration on this host", "more than 4 documents"]
    assert [bool(documents.text(path)) for path in kept[:4]] == [True, False, False, False]


# --- hints -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'path = "/q/qemu"',
        "path = '/q/qemu'",
        '"path" = "/q/qemu"',
        'qemu.path="/q/qemu"',
        "PATH = '/q/qemu'",
        'hypervisor.qemu = { kernel = "/k", path = "/q/qemu" }',
        '  path\t=\t"/q/qemu" # comment',
        'hypervisor = { qemu = { path = "/q/qemu" } }',
    ],
)
def test_qemu_paths_in_any_spelling(text):
    header = "" if "hypervisor" in text else "[hypervisor.qemu]\n"
    assert hints.qemu_paths(header + text) == ["/q/qemu"]


@pytest.mark.parametrize(
    "text",
    [
        "[hypervisor.clh]\npath = '/opt/kata/bin/cloud-hypervisor'\n",
        "[hypervisor.qemu]\n# path = '/q/qemu'\n",
        "[hypervisor.qemu]\npath = 'PLACEHOLDER'\n",
        "[hypervisor.qemu]\njailer_path = '/j'\n",
        "[[hypervisor.qemu.extensions]]\npath = '/x.img'\n",
    ],
)
def test_what_is_no_qemu_path(text):
    assert hints.qemu_paths(text) == []


@pytest.mark.parametrize(
    "script, conf_file, target, told",
    [
        ("KATA_CONF_FILE=/a/b.toml /opt/kata/bin/containerd-shim-kata-v2 $@", "/a/b.toml", "/opt/kata/bin/containerd-shim-kata-v2", False),
        (
            'export KATA_CONF_FILE="/a/b c.toml"\nexec "/opt/kata/bin/containerd-shim-kata-v2" "$@"',
            "/a/b c.toml",
            "/opt/kata/bin/containerd-shim-kata-v2",
            False,
        ),
        ("export KATA_CONF_FILE='/a/b.toml'; /x/containerd-shim-kata-v2", "/a/b.toml", "/x/containerd-shim-kata-v2", False),
        ("# KATA_CONF_FILE=/old.toml\nexec /x/containerd-shim-kata-v2", None, "/x/containerd-shim-kata-v2", False),
        ("KATA_CONF_FILE=$HOME/x.toml /x/containerd-shim-kata-v2", None, "/x/containerd-shim-kata-v2", True),
        ("MY_KATA_CONF_FILE=/x.toml", None, None, False),
    ],
)
def test_wrapper(script, conf_file, target, told):
    found = hints.wrapper("#!/bin/sh\n" + script + "\n")
    assert (found["kata_conf_file"], found["target"], found["reason"] is not None) == (conf_file, target, told)


def test_versions_yaml():
    text = 'assets:\n  hypervisor:\n    fc:\n      version: "v1"\n    qemu:\n      version: "v8.2.4"\n      x:\n        version: "v9"\n'
    assert hints.versions_yaml_qemu(text) == "8.2.4"
    assert hints.versions_yaml_qemu("externals:\n  qemu:\n    version: '1'\n") is None
    assert hints.versions_yaml_qemu("qemu:\n  version: master\n") is None


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_into_the_hints(data):
    text = files.strip_text(data)[0] or data.decode("latin-1")
    assert len(hints.toml_paths(text, "/f")) + len(hints.shim_paths(text)) + len(hints.qemu_paths(text)) <= len(data)
    hints.shim_names(text)
    hints.wrapper(text)
    hints.versions_yaml_qemu(text)
    assert hints.looks_like_kata(text) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        '"' * 60000,
        "'" * 60000,
        "[" * 60000,
        "path=" * 20000,
        "KATA_CONF_FILE=" * 5000,
        "/containerd-shim" * 5000,
        "io.containerd.kata" * 4000,
        "/" * 60000,
        "'/a.toml' " * 6000,
        '["/kata"]' * 6000,
        "a: x" + " " * 60000 + "y",
        "\n" * 60000,
        '"\\' * 40000,
        " " * 60000,
    ],
)
def test_hints_are_quick_on_hostile_texts(text):
    start = time.monotonic()
    hints.toml_paths(text, "/f")
    hints.qemu_paths(text)
    hints.wrapper(text)
    hints.shim_names(text)
    hints.versions_yaml_qemu(text)
    hints.looks_like_kata(text)
    hints.shim_paths(text)
    assert time.monotonic() - start < 2


# --- shims -----------------------------------------------------------------------------------------------------------------------------------------


def test_version_of_a_shim_has_a_time_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(shims, "VERSION_TIMEOUT", 0.3)
    for name, body, answer in (
        (
            "good",
            "echo 'Kata Containers containerd shim (Golang): id: x, version: 3.2.0'",
            "Kata Containers containerd shim (Golang): id: x, version: 3.2.0",
        ),
        ("slow", "exec sleep 60", None),
        ("bad", "echo x; exit 1", None),
    ):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + body + "\n")
        path.chmod(0o755)
        start = time.monotonic()
        assert shims.run_version(str(path)) == answer
        assert time.monotonic() - start < 5
    assert shims.run_version(str(tmp_path / "none")) is None


def test_wrappers_that_start_each_other(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        layouts.put(tmp_path, "/x/containerd-shim-%s-v2" % one, "#!/bin/sh\nexec /x/containerd-shim-%s-v2\n" % other)
    found = shims.Shims(files.Tree(str(tmp_path)))
    found.add("/x/containerd-shim-a-v2")
    assert sorted(found.by_path) == ["/x/containerd-shim-a-v2", "/x/containerd-shim-b-v2"]


# --- the whole -------------------------------------------------------------------------------------------------------------------------------------


def test_a_host_without_anything(tmp_path):
    kata = collect(str(tmp_path))
    assert (kata["documents"], kata["cri"], kata["shims"], kata["releases"], kata["qemu_paths"], kata["limits"]) == ({}, [], {}, {}, [], [])
    assert "/etc/containerd/config.toml" in kata["absent"]


def test_patterns_that_lead_astray_read_nothing(tmp_path):
    layouts.put(tmp_path, "/etc/containerd/config.toml", "imports = ['/proc/*/*', '/proc/sys/*', '/sys/*', '/../../proc/1/*']\n")
    layouts.put(tmp_path, "/proc/1/status", "secret\n")
    layouts.put(tmp_path, "/sys/x", "secret\n")
    kata = collect(str(tmp_path))
    assert "secret" not in json.dumps(texts(kata))
    assert kata["documents"]["/sys/x"]["reason"] == "not a place of configuration"


def test_all_files_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_READ", 10)
    for number in range(3):
        layouts.put(tmp_path, "/%d" % number, "%d" % number * 8)
    documents = files.Documents(files.Tree(str(tmp_path)))
    reasons = [documents.by_path[documents.add("/%d" % number)]["reason"] for number in range(3)]
    assert reasons == [None, None, "more than 10 bytes of files"]
    assert documents.limits == ["more than 10 bytes of files"]


def test_each_content_travels_once(tmp_path):
    layout = layouts.load("kata_deploy_3_28")
    kata = collect(layouts.build(layout, tmp_path))
    same = [document for path, document in kata["documents"].items() if path.endswith("/configuration-qemu.toml")]
    assert len(same) == 3
    assert len({document["sha256"] for document in same}) == 1
    assert len(texts(kata)) == len({document["sha256"] for document in kata["documents"].values()})


def test_names_that_are_not_utf_8(tmp_path):
    root = layouts.build(layouts.load("static_3_7_0"), tmp_path)
    with open(os.fsencode(root + SHARE + "/config.d/") + b"\xff.toml", "w", encoding="utf-8") as stream:
        stream.write("[hypervisor.qemu]\nblock_device_aio = 'threads'\n")
    kata = collect(root)
    entries = kata["config_dirs"][SHARE + "/config.d"]["entries"]
    assert [entry["name"] for entry in entries] == ["20-site.toml", "\\xff.toml"]  # Kata reads it as any other
    assert kata["documents"][SHARE + "/config.d/\\xff.toml"]["sha256"]
    json.dumps(kata).encode("utf-8")


def as_nobody(call):
    """What ``call`` returns in a child process that has become an ordinary user (it needs no way to Python or to the collection)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            answer = {"result": call()}
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the parent has to hear of it
            answer = {"error": repr(exc)}
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer["result"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_is_denied_is_told(tmp_path):
    """As a user who may read neither the base file nor the folder of drop-ins."""
    root = layouts.build(layouts.load("static_3_7_0"), tmp_path)
    (Path(root + SHARE) / "configuration-qemu.toml").chmod(0)
    (Path(root + SHARE) / "config.d").chmod(0)
    for parent in [tmp_path, *list(tmp_path.parents)[:-2]]:
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    kata = as_nobody(lambda: collect(root))
    document = kata["documents"][SHARE + "/configuration-qemu.toml"]
    assert (document["kind"], document["sha256"], document["reason"]) == ("regular", None, "Permission denied")
    assert kata["config_dirs"][SHARE + "/config.d"]["reason"] == "Permission denied"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "/etc/containerd/config.toml",
                "/etc/crio/crio.conf.d/x",
                SHARE + "/configuration-qemu.toml",
                SHARE + "/config.d/a",
                "/opt/kata/VERSION",
                "/opt/kata/versions.yaml",
                "/opt/kata/bin/containerd-shim-kata-v2",
                "/proc/1/comm",
                "/proc/1/cmdline",
                "/proc/1/environ",
            ]
        ),
        st.one_of(st.binary(max_size=120), st.sampled_from([b"containerd\n", b"#!/bin/sh\n", b"imports = ['/**', '../*/*.toml', '/proc/*/*']\n"])),
    )
)
def test_any_bytes_in_any_file(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("host")
    for path, data in contents.items():
        layouts.put(root, path, data)
    kata = collect(str(root))
    assert len(json.dumps(kata)) < 64 * 1024


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.13"])
def test_every_python_of_a_managed_node_gives_the_same(python, tmp_path):
    """The collector by itself, without Ansible, on the Pythons of this machine."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")).glob("versions/%s.*/bin/python3" % python)) or [shutil.which("python" + python)]
    if not found[-1]:
        pytest.skip("no Python %s here" % python)
    root = layouts.build(layouts.load("kata_deploy_3_24"), tmp_path)
    place = str(Path(hints.__file__).parents[6])
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect\nprint(json.dumps(collect(sys.argv[2])))"
    )
    done = subprocess.run([str(found[-1]), "-S", "-B", "-c", code, place, root], stdout=subprocess.PIPE, check=True)
    kata = json.loads(done.stdout)
    here = collect(root)
    assert texts(kata) == texts(here)
    for key in here:
        if key != "texts_z":  # zlib's own version may differ
            assert kata[key] == json.loads(json.dumps(here[key])), key
