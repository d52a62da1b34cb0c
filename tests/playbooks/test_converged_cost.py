# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks run on a fleet of replayed hosts, counted under a real ansible-playbook: a healthy fleet costs one task per host; tags are safe alone."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
HOSTS = 12


def run(folder, playbook, *more, **policy):
    """What ansible-playbook says over placeholder hosts that all give the answer of a healthy host, which was asked for the policy."""
    answer = json.loads((TOP / "tests" / "fixtures" / "answers" / "healthy.json").read_text())
    answer["policy"].update(policy)
    (folder / "answer.json").write_text(json.dumps(answer))
    hosts = {"s%02d" % number: {"ansible_connection": "replay", "ansible_python_interpreter": "/usr/bin/python3"} for number in range(HOSTS)}
    variables = {"kata_aio_report_dir": str(folder / "report")}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
    environment.update(
        ANSIBLE_CONNECTION_PLUGINS=str(TOP / "tests" / "bench" / "connection"),
        ANSIBLE_HOME=str(folder),
        ANSIBLE_PIPELINING="1",
        ANSIBLE_LOCALHOST_WARNING="false",
        REPLAY_FACTS=str(folder / "answer.json"),
    )
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", *more, playbook]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(text):
    """``(task, what it told of each host)`` in order."""
    found = []
    for line in text.splitlines():
        started = re.match(r"TASK \[(.*)\]", line)
        told = re.match(r"(ok|changed|skipping|failed|fatal|included): \[?s\d", line)
        if started:
            found.append((started[1], []))
        elif told:
            found[-1][1].append(told[1])
    return found


@pytest.mark.parametrize("playbook", ["kataops.aio.audit", "kataops.aio.remediate"])
@pytest.mark.parametrize("check", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_one_task_per_host(tmp_path, playbook, check):
    text = run(tmp_path, playbook, *check)
    found = results(text)
    assert [one for one in found if len(one[1]) > 1] == [("Observe | Look at the host and judge it", ["ok"] * HOSTS)], text
    report = json.loads((tmp_path / "report" / "kata-aio-report.json").read_text())
    assert report["totals"]["verdicts"]["ok"] == HOSTS
    if playbook.endswith("remediate"):
        assert report["totals"]["outcomes"]["converged"] == HOSTS
        assert [told for task, told in found if task == "Report | Make the report"] == [["skipping"], ["ok"]], text


@pytest.mark.parametrize("tag", ["plan", "build"])
def test_a_tag_alone_changes_no_host(tmp_path, tag):
    """Every host needs room for more sandboxes, which needs no QEMU: there is something to repair and nothing to build."""
    found = results(run(tmp_path, "kataops.aio.remediate", "--tags", tag, headroom=2000, aio_max_nr=4194304))
    assert [one for one in found if len(one[1]) > 1] == [
        ("Observe | Look at the host and judge it", ["ok"] * HOSTS),
        ("Plan | Take the hosts that need something", ["ok"] * HOSTS),
    ]
    assert not [task for task, _told in found if task.split(" | ")[0] in ("Repair", "Limits", "Switch", "Gate")]
    report = json.loads((tmp_path / "report" / "kata-aio-report.json").read_text())
    assert report["totals"]["outcomes"]["untouched"] == HOSTS
