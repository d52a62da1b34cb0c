# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the progress callback prints under a real ansible-playbook."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
PLAYBOOK = [
    {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": "no waves"}}]},
    {
        "hosts": "all",
        "gather_facts": False,
        "serial": "{{ kata_aio_waves | default([1, '50%', '100%']) }}",
        "tasks": [
            {
                "block": [
                    {"ansible.builtin.fail": {"msg": "no"}, "when": "inventory_hostname == 'h3'"},
                    {"ansible.builtin.set_fact": {"kata_aio_outcome": {"outcome": "repaired"}}},
                ],
                "rescue": [{"ansible.builtin.set_fact": {"kata_aio_outcome": {"outcome": "rolled_back"}}}],
            },
            {"ansible.builtin.assert": {"that": "ansible_play_batch | length < stop_at | int"}, "run_once": True, "any_errors_fatal": True},
        ],
    },
]


def lines(folder, stop_at, show):
    (folder / "p.yml").write_text(yaml.safe_dump(PLAYBOOK))
    (folder / "inventory").write_text("".join("h%d ansible_connection=local\n" % number for number in range(1, 7)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") or key == "ANSIBLE_COLLECTIONS_PATH"}
    # The checkout's own configuration has it on
    environment.update(ANSIBLE_CONFIG=str(TOP / "ansible.cfg"), ANSIBLE_HOME=str(folder), ANSIBLE_LOCALHOST_WARNING="false")
    environment.pop("KATA_AIO_PROGRESS", None)
    if show:
        environment["KATA_AIO_PROGRESS"] = show
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory", "p.yml", "-e", "stop_at=%d" % stop_at]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert "WARN" not in done.stderr, done.stderr
    return [line.rsplit(", about", 1)[0].rsplit(", took", 1)[0] for line in done.stdout.splitlines() if line.startswith("Rollout: ")]


def test_under_ansible(tmp_path):
    assert lines(tmp_path, 99, "always") == [
        "Rollout: wave 1 of 3: 1 host, 0/6 done, 0 failed",
        "Rollout: wave 2 of 3: 3 hosts, 1/6 done, 0 failed",
        "Rollout: wave 3 of 3: 2 hosts, 4/6 done, 1 failed",
        "Rollout: all 3 waves done: 6/6 hosts, 1 failed",
    ]


def test_under_ansible_when_the_gate_stops(tmp_path):
    # The gate's own failure is told of a host that went well: it does not count.
    assert lines(tmp_path, 3, "always")[-1] == "Rollout: stopped after wave 2 of 3: 4/6 hosts, 1 failed, 2 not reached"


def test_silent_where_there_is_no_terminal(tmp_path):
    assert lines(tmp_path, 99, None) == []
