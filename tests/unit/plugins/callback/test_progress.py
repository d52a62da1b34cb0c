# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress callback: its arithmetic, and its lines under a real ansible-playbook."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible_collections.kataops.aio.plugins.callback.progress import Rollout, counted, duration, wanted

TOP = pathlib.Path(__file__).resolve().parents[4]


def test_lines_of_a_rollout():
    rollout = Rollout([1, 9, 90], forks=10, now=0)
    rollout.start_wave(0)
    assert rollout.start_line() == "wave 1 of 3: 1 host, 0/100 done, 0 failed"
    rollout.note("h1", "repaired")
    rollout.start_wave(60)
    # One host or ten take one round of ten forks: 1 + 9 rounds of 60 s are left.
    assert rollout.start_line() == "wave 2 of 3: 9 hosts, 1/100 done, 0 failed, about 10 min left"
    rollout.note("h2", "rolled_back")
    rollout.note_failure("h3")
    rollout.start_wave(150)
    assert rollout.start_line() == "wave 3 of 3: 90 hosts, 10/100 done, 2 failed, about 14 min left"
    rollout.end_wave(900)
    assert rollout.end_line(900) == "all 3 waves done: 100/100 hosts, 2 failed, took 15 min"


def test_a_rollout_that_stops():
    rollout = Rollout([1, 9, 90], forks=5, now=0)
    rollout.start_wave(0)
    rollout.note("h1", "failed")
    rollout.end_wave(30)
    assert rollout.end_line(30) == "stopped after wave 1 of 3: 1/100 hosts, 1 failed, 99 not reached, took 30 s"


def test_who_stands_in_for_a_wave_is_not_counted():
    hosts = ["h1", "localhost", "h2", "h3", "healthy"]
    assert counted(hosts, [2, 3], ["h1", "h2", "h3"]) == [1, 2]
    assert counted(hosts, [2, "100%"]) == [2, 3]
    assert counted(["other", "h1"], [1], ["h1", "h2"]) == [1, 1]
    assert counted([], [2, 3], []) == []


def test_the_last_word_of_a_host_counts():
    rollout = Rollout([2], forks=5, now=0)
    rollout.note_failure("h1")
    rollout.note("h1", "repaired")
    rollout.note("h2", "repaired")
    rollout.note_failure("h2")
    rollout.note("h2", None)
    assert rollout.failed == {"h2"}


@pytest.mark.parametrize("seconds, text", [(0.2, "1 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "show, environment, terminal, says",
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"CI": "true"}, True, False),
        ("auto", {"CI": "false"}, True, True),
        ("always", {"CI": "true"}, False, True),
        ("never", {}, True, False),
    ],
)
def test_when_it_speaks(show, environment, terminal, says):
    assert wanted(show, environment, terminal) is says


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
