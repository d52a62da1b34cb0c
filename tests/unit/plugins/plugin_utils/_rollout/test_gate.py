# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate counts every way to lose a host, and says what to do next."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.gate import allowed_failures, verdict

HOSTS = ["h%d" % number for number in range(1, 11)]
OK = {"outcome": "repaired"}
BACK = {"outcome": "rolled_back", "error": {"phase": "verify", "message": "the proof failed", "undone": "the drop-in was removed"}}


@pytest.mark.parametrize("budget, total, allowed", [("0", 10, 0), (3, 10, 3), ("10%", 10, 1), ("10%", 9, 0), ("100%", 7, 7), ("0%", 1000, 0)])
def test_budget(budget, total, allowed):
    assert allowed_failures(budget, total) == allowed


@pytest.mark.parametrize("budget", ["", "-1", "many", "%", "1.5"])
def test_no_budget(budget):
    with pytest.raises(AioError, match="kata_aio_failure_budget"):
        allowed_failures(budget, 10)


def test_all_good():
    made = verdict(HOSTS, HOSTS, {"h1": OK, "h2": OK}, "0")
    assert made["passed"]
    assert made["untouched"] == HOSTS[2:]


def test_a_fall_back_was_the_users_own_wish_and_is_no_loss():
    assert verdict(HOSTS, HOSTS, {"h1": {"outcome": "degraded"}}, "0")["passed"]


def test_what_was_broken_before_and_stays_so_does_not_stop_the_rollout():
    assert verdict(HOSTS, HOSTS, {"h1": {"outcome": "partly_repaired"}}, "0")["passed"]


def test_a_host_that_was_taken_back_counts():
    made = verdict(HOSTS, HOSTS, {"h1": OK, "h2": BACK}, "0")
    assert not made["passed"]
    for words in ("h2: rolled_back in phase verify: the proof failed Undone: the drop-in was removed", "8 host(s) were not touched", "--limit 'h2'"):
        assert words in made["message"]


def test_a_lost_host_counts_with_and_without_a_record():
    active = [host for host in HOSTS if host not in ("h2", "h3")]
    made = verdict(HOSTS, active, {"h1": OK, "h3": {"outcome": None, "phase_reached": "stage"}}, "1")
    assert [(entry["host"], entry["phase"]) for entry in made["lost"]] == [("h2", None), ("h3", "stage")]
    assert not made["passed"]
    assert verdict(HOSTS, active, {"h1": OK}, "20%")["passed"]


def test_failed_counts_and_unreached_does_not():
    made = verdict(HOSTS, HOSTS, {"h1": {"outcome": "failed", "error": None}}, "0")
    assert [entry["host"] for entry in made["lost"]] == ["h1"]
