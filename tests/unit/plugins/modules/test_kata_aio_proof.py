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

from ansible.module_utils import basic

# Where this very Python has ansible from: on a managed node's Python ansible-test provides it by path only
ANSIBLE = str(Path(basic.__file__).resolve().parents[2])
COLLECTION = Path(__file__).resolve().parents[4]


def run(tmp_path, options):
    tree = tmp_path / "ansible_collections" / "kataops"
    tree.mkdir(parents=True)
    (tree / "aio").symlink_to(COLLECTION)
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.kataops.aio.plugins.modules.kata_aio_proof"],
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


def test_a_proof_that_fails_is_a_failure_with_all_that_was_learnt(tmp_path):
    result = run(tmp_path, {"binary": "/nonesuch", "engine": "io_uring"})
    assert result["failed"] is True
    assert result["msg"].startswith("Kata's hot-plug with io_uring does not work: /nonesuch: No such file")
    assert (result["ok"], result["cause"], result["transcript"]) == (False, "missing", [])


def test_or_only_a_result(tmp_path):
    result = run(tmp_path, {"binary": "/nonesuch", "fail": False})
    assert "failed" not in result
    assert (result["changed"], result["ok"]) == (False, False)


def test_bad_options_are_one_clear_failure(tmp_path):
    result = run(tmp_path, {"binary": "qemu", "storage_path": "images"})
    assert result["failed"] is True
    assert "not absolute" in result["msg"]
    assert "Traceback" not in json.dumps(result)
