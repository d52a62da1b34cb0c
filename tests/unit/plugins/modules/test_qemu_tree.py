# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with its real argument handling: what it returns, what it changes, and that check mode and diff tell the truth."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import threading

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.modules import qemu_tree

ID = "qemu-7.2.22-test-static-0123456789ab"
OTHER = "qemu-8.2.4-test-static-0123456789ab"


@contextlib.contextmanager
def arguments(values):
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": values}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before
    else:
        with patch_module_args(values):
            yield


class Ended(Exception):
    """The module has ended."""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the module; returns its result, with ``failed`` where it failed."""
    ended = {}

    def end(failed, self, **values):
        ended.clear()
        ended.update(values, failed=failed)
        raise Ended

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", functools.partialmethod(lambda self, **values: end(False, self, **values)))
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", functools.partialmethod(lambda self, *unused, **values: end(True, self, **values)))

    def run(check=False, diff=False, **options):
        options.setdefault("trees_dir", str(tmp_path / "trees"))
        options.setdefault("state_dir", str(tmp_path / "state"))
        options.update(_ansible_check_mode=check, _ansible_diff=diff, _ansible_remote_tmp=str(tmp_path / "remote"), _ansible_keep_remote_files=False)
        with arguments(options), pytest.raises(Ended):
            qemu_tree.main()
        documented = yaml.safe_load(qemu_tree.RETURN)
        if not ended["failed"]:
            assert set(ended) - {"failed", "changed", "diff"} <= set(documented)
        return dict(ended)

    return run


@pytest.fixture
def make(tmp_path):
    """Packs an artifact around a real program; returns ``{path, sha256}``."""

    def make(tree_id, program="/bin/sleep"):
        folder = tmp_path / ("made-" + tree_id)
        (folder / "bin").mkdir(parents=True)
        shutil.copy(program, folder / "bin" / "qemu-system-x86_64")
        os.chmod(folder / "bin" / "qemu-system-x86_64", 0o755)
        fields = {
            "id": tree_id,
            "version": "7.2.22",
            "architecture": os.uname().machine,
            "linkage": "static",
            "engines": ["native"],
            "source": {"kind": "tarball"},
            "binary": "bin/qemu-system-x86_64",
            "data_dir": "share/kata-qemu/qemu",
        }
        path = str(tmp_path / ("%s.tar.xz" % tree_id))
        written = _manifest.write_archive(str(folder), _manifest.complete(str(folder), fields), path)
        return dict(written, path=path)

    return make


def test_from_nothing_to_a_tree_and_back(run, make, tmp_path):
    artifact = make(ID)
    missing = run(state="queried", id=ID)
    assert (missing["failed"], missing["whole"], missing["binary"]) == (False, False, None)

    told = run(check=True, diff=True, archive=artifact["path"])
    assert (told["changed"], told["diff"]["before"], told["diff"]["after"]) == (True, "", ID + "\n")
    assert not (tmp_path / "trees").exists()

    made = run(diff=True, archive=artifact["path"], engines=["native"])
    assert (made["changed"], made["id"], made["diff"]["after"]) == (True, ID, ID + "\n")
    assert (made["manifest"]["version"], made["manifest"]["engines"], made["manifest"]["source"]) == ("7.2.22", ["native"], {"kind": "tarball"})
    assert os.access(made["binary"], os.X_OK)

    assert run(archive=artifact["path"])["changed"] is False
    assert run(state="verified", id=ID)["changed"] is False
    assert run(state="queried", id=ID)["whole"] is True

    assert run(check=True, state="absent", id=ID)["changed"] is True
    assert os.path.exists(made["binary"])
    gone = run(diff=True, state="absent", id=ID)
    assert (gone["changed"], gone["diff"]["before"], gone["diff"]["after"]) == (True, ID + "\n", "")
    assert run(state="absent", id=ID)["changed"] is False
    assert os.listdir(tmp_path / "trees") == []


def test_a_changed_file_is_told_and_mended(run, make):
    artifact = make(ID)
    binary = run(archive=artifact["path"])["binary"]
    os.chmod(binary, 0o4755)
    told = run(state="verified", id=ID)
    assert told["failed"] is True
    assert told["problems"] == ["bin/qemu-system-x86_64 has mode 4755, not 0755"]
    assert "state: present repairs the tree" in told["msg"]
    repaired = run(diff=True, archive=artifact["path"])
    assert repaired["repaired"] == told["problems"]
    assert "has mode 4755" in repaired["diff"]["before"]
    assert run(state="verified", id=ID)["failed"] is False


def test_a_whole_tree_needs_no_artifact_any_more(run, make):
    artifact = make(ID)
    run(archive=artifact["path"])
    os.unlink(artifact["path"])
    assert run(id=ID, archive=artifact["path"], engines=["native"])["changed"] is False
    refused = run(id=ID, archive=artifact["path"], engines=["io_uring"])
    assert refused["failed"] is True
    assert "built without io_uring" in refused["msg"]


def test_only_what_nobody_uses_is_pruned(run, make, tmp_path):
    for tree_id in (ID, OTHER):
        run(archive=make(tree_id)["path"])
    base = tmp_path / "kata" / "configuration-qemu.toml"
    base.parent.mkdir()
    base.write_text('[hypervisor.qemu]\npath = "/opt/kataops/qemu/%s/bin/qemu-system-x86_64"\n' % OTHER, encoding="ascii")
    used = run(state="absent", id=OTHER, config_paths=[str(base)])
    assert used["failed"] is True
    assert used["used_by"] == ["%s names it" % base]
    assert run(check=True, state="pruned", config_paths=[str(base)])["removed"] == [ID]
    pruned = run(state="pruned", config_paths=[str(base)])
    assert (pruned["changed"], pruned["removed"], pruned["kept"]) == (True, [ID], {OTHER: ["%s names it" % base]})
    assert os.listdir(tmp_path / "trees") == [OTHER]
    assert run(state="pruned", keep=[OTHER])["changed"] is False


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; ``cut`` ends each answer after that many bytes."""

    cut = None
    asked = 0


class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
        self.server.asked += 1
        data = source.read()
        outputfile.write(data if self.server.cut is None else data[: self.server.cut])

    def log_message(self, *unused):
        pass


@pytest.fixture
def server(tmp_path):
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        made.url = "http://127.0.0.1:%d/" % made.server_port
        yield made
        made.shutdown()
        thread.join()


def test_a_host_fetches_once_and_not_at_all_when_it_has_the_tree(run, make, server):
    artifact = make(ID)
    options = {"id": ID, "url": server.url + ID + ".tar.xz", "sha256": artifact["sha256"]}
    assert run(check=True, **options)["changed"] is True
    assert server.asked == 0
    assert run(**options)["changed"] is True
    assert run(**options)["changed"] is False
    assert server.asked == 1


def test_a_fetch_that_is_cut_off_changes_nothing_and_the_next_one_works(run, make, server, tmp_path):
    artifact = make(ID)
    options = {"id": ID, "url": server.url + ID + ".tar.xz", "sha256": artifact["sha256"]}
    server.cut = 1000
    cut = run(**options)
    assert cut["failed"] is True
    assert "checksum is wrong" in cut["msg"] or "broke off" in cut["msg"]
    assert not (tmp_path / "trees").exists()
    server.cut = None
    assert run(**options)["changed"] is True


@pytest.mark.parametrize("url", ["none.tar.xz", "http://127.0.0.1:9/x.tar.xz"])
def test_what_cannot_be_fetched_is_told_with_its_url(run, server, url):
    url = url if url.startswith("http") else server.url + url
    told = run(id=ID, url=url, sha256="0" * 64)
    assert told["failed"] is True
    assert told["msg"].startswith(url)
    assert "Remedy" in told["msg"]


@pytest.mark.parametrize("options", [{}, {"state": "verified"}, {"url": "http://x"}, {"state": "in_place", "id": ID}, {"id": "../../etc", "state": "absent"}])
def test_bad_options_are_one_clear_message(run, options, tmp_path):
    told = run(**options)
    assert told["failed"] is True
    assert told["msg"]
    assert not (tmp_path / "trees").exists()


def test_in_place_and_taken_back(run, make, tmp_path):
    run(archive=make(ID, "/bin/true")["path"])
    target = tmp_path / "qemu-system-x86_64"
    shutil.copy("/bin/sleep", target)
    before = target.read_bytes()
    assert run(check=True, state="in_place", id=ID, target=str(target))["changed"] is True
    assert target.read_bytes() == before
    placed = run(diff=True, state="in_place", id=ID, target=str(target))
    assert (placed["changed"], placed["replaced"]["target"]) == (True, str(target))
    assert placed["replaced"]["after"] in placed["diff"]["after"]
    assert run(state="in_place", id=ID, target=str(target))["changed"] is False
    assert run(state="taken_back")["restored"] == [str(target)]
    assert target.read_bytes() == before
    assert run(state="taken_back")["changed"] is False
