# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: a process that is given its options on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils import basic

# Where this very Python has ansible from: on a managed node's Python ansible-test provides it by path only
ANSIBLE = str(Path(basic.__file__).resolve().parents[2])
COLLECTION = Path(__file__).resolve().parents[4]


def run(tmp_path, options):
    tree = tmp_path / "ansible_collections" / "kataops"
    tree.mkdir(parents=True)
    (tree / "aio").symlink_to(COLLECTION)
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.kataops.aio.plugins.modules.qemu_aio_info"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), ANSIBLE])),
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(done.stdout + done.stderr) from None


def test_what_is_wrong_with_a_binary_is_a_result(tmp_path):
    result = run(tmp_path, {"binaries": ["/nonesuch", "/bin/cat", "/nonesuch"], "storage_path": str(tmp_path)})
    assert result["changed"] is False
    assert [(qemu["path"], qemu["status"]) for qemu in result["qemus"]] == [("/nonesuch", "missing"), ("/bin/cat", "not_qemu")]


@pytest.mark.parametrize("check", [True, False])
def test_check_mode_looks_as_well(tmp_path, check):
    result = run(tmp_path, {"binaries": ["/bin/cat"], "run": False, "_ansible_check_mode": check})
    assert "not to be run" in result["qemus"][0]["reason"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"binaries": ["/x"], "storage_path": "images"}, "not absolute"), ({}, "binaries"), ({"binaries": [], "timeout": "soon"}, "timeout")],
)
def test_bad_options_are_one_clear_failure(tmp_path, options, words):
    result = run(tmp_path, options)
    assert result["failed"] is True
    assert words in result["msg"]
    assert "Traceback" not in json.dumps(result)
