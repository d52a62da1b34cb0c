# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree counts as used by a real running process, a real configuration and a real journal, and by nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._tree import use as _tree_use

NAME = "qemu-7.2.22-x86_64-static-0123456789ab"
ABOUT = {"tool": "test", "kind": "change"}


@pytest.fixture
def tree(tmp_path):
    binary = tmp_path / "trees" / NAME / "bin" / "qemu-system-x86_64"
    binary.parent.mkdir(parents=True)
    shutil.copy("/bin/sleep", binary)
    return str(tmp_path / "trees" / NAME)


def write(state, path, text):
    """One real transaction of the journal."""
    before = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    change = {
        "kind": "file",
        "name": str(path),
        "expected_sha256": before,
        "content_b64": base64.b64encode(text.encode()).decode(),
        "mode": None,
        "uid": None,
        "gid": None,
        "info": {},
    }
    transaction.transact(Journal(str(state)), [change], ABOUT)


def test_nobody_uses_it(tree, tmp_path):
    assert _tree_use.users(tree, state_dir=str(tmp_path / "state")) == []


def test_a_running_process_uses_it_whatever_name_it_has_by_now(tree, tmp_path):
    process = subprocess.Popen([os.path.join(tree, "bin", "qemu-system-x86_64"), "60"])
    try:
        assert _tree_use.by_processes(tree) == ["process %d runs it" % process.pid]
        os.rename(tree, str(tmp_path / NAME))
        assert _tree_use.by_processes(str(tmp_path / NAME)) == ["process %d runs it" % process.pid]
    finally:
        process.kill()
        process.wait()
    assert _tree_use.by_processes(str(tmp_path / NAME)) == []


def test_a_configuration_that_names_it_uses_it(tree, tmp_path):
    folder = tmp_path / "kata"
    (folder / "config.d").mkdir(parents=True)
    base = folder / "configuration-qemu.toml"
    base.write_text('[hypervisor.qemu]\npath = "/opt/kata/bin/qemu-system-x86_64"\n', encoding="utf-8")
    assert _tree_use.by_configuration(tree, [str(base)]) == []
    drop_in = folder / "config.d" / "60-kataops-aio.toml"
    drop_in.write_text('[hypervisor.qemu]\npath = "%s/bin/qemu-system-x86_64"\n' % tree, encoding="utf-8")
    assert _tree_use.by_configuration(tree, [str(base)]) == ["%s names it" % drop_in]


def test_the_journal_uses_what_a_rollback_would_bring_back_and_nothing_else(tree, tmp_path):
    state, path = tmp_path / "state", tmp_path / "configuration-qemu.toml"
    path.write_text("[hypervisor.qemu]\n", encoding="utf-8")
    write(state, path, 'path = "%s/bin/qemu-system-x86_64"\n' % tree)
    # What stands there now is the configuration's use, not the journal's: a rollback goes to what was before.
    assert _tree_use.by_journal(tree, str(state)) == []
    write(state, path, 'path = "/opt/kataops/qemu/qemu-another/bin/qemu-system-x86_64"\n')
    assert _tree_use.by_journal(tree, str(state)) == ["a rollback of %s would need it" % path]


def test_a_journal_that_cannot_be_read_keeps_the_tree(tree, tmp_path):
    state, path = tmp_path / "state", tmp_path / "configuration-qemu.toml"
    path.write_text("[hypervisor.qemu]\n", encoding="utf-8")
    write(state, path, "[runtime]\n")
    entry = next((state / "journal").iterdir())
    entry.write_text("{", encoding="utf-8")
    assert "cannot be read" in _tree_use.by_journal(tree, str(state))[0]
