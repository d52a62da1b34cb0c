# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress callback's arithmetic; tests/playbooks/test_progress_lines.py has its lines under ansible-playbook."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.callback.progress import Rollout, counted, duration, wanted


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
