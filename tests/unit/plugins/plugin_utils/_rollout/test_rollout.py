# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The waves that are announced are those that Ansible's serial makes."""

from __future__ import annotations

import pytest
from ansible.utils.helpers import pct_to_int
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.waves import rollout, wave_sizes


def build(kind="rebuild", architecture="x86_64"):
    release = "3.20.0" if kind == "kata_static" else None
    return {"source": "build", "kind": kind, "build": "%s-%s" % (kind, architecture), "release": release}


def plan(strategy, needed=True, qemu=None, alternatives=(), remaining=(), prices=()):
    qemu = qemu or (build() if strategy == "rebuild" else None)
    made = {"strategy": strategy, "needed": needed, "reasons": ["why"], "qemu": qemu, "alternatives": list(alternatives)}
    return dict(made, remaining=list(remaining), prices=list(prices))


def test_what_a_repair_costs_and_what_stays_is_told_before_anything_is_done():
    stale = {"runtime": "/x.toml", "handlers": ["kata-debug"], "reason": "its file is gone"}
    made = rollout({"a": plan("configuration", prices=["volumes"], remaining=[stale]), "b": plan("configuration", prices=["volumes"])}, ["1"], {})
    assert "  the price on a, b: volumes" in made["summary"]
    assert "  a: /x.toml (kata-debug) stays as it is: its file is gone" in made["summary"]
    assert made["repair"] == ["a", "b"]


def ansible_sizes(waves, total):
    """As PlaybookExecutor._get_serialized_batches does it."""
    left, sizes, index = total, [], 0
    while left:
        serial = pct_to_int(waves[index], total)
        size = left if serial <= 0 else min(serial, left)
        sizes.append(size)
        left -= size
        index = min(index + 1, len(waves) - 1)
    return sizes


@pytest.mark.parametrize("waves", [["1", "10%", "50%", "100%"], ["1"], ["30%"], ["100%"], ["2", "3"], ["0"]])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 10, 99, 1000])
def test_waves_are_those_of_ansible(waves, total):
    assert wave_sizes(waves, total) == ansible_sizes(waves, total)


def test_no_host_no_wave():
    assert wave_sizes(["1", "100%"], 0) == []


def who_builds(made):
    return {one["build"]: (one["builder"], one["planned"]) for one in made["builds"]}


def test_rollout_sorts_the_hosts():
    made = rollout(
        {"a": plan("rebuild"), "b": plan("none", False), "c": plan("configuration"), "d": plan("impossible"), "e": plan("rebuild")}, ["1", "100%"], {}
    )
    assert (made["repair"], who_builds(made), made["waves"]) == (["a", "c", "e"], {"rebuild-x86_64": ("a", True)}, [1, 2])
    assert made["impossible"] == [{"host": "d", "reasons": ["why"]}]
    assert made["summary"][0] == "Plan: 5 host(s) observed, 1 need nothing, 3 to repair, 1 without a way."


@pytest.mark.parametrize(
    "controller, expected",
    [
        (True, [["a", "localhost"], ["c", "b"], ["e", "d"], ["f"]]),
        (False, [["a", "b"], ["c", "d"], ["e"], ["f"]]),
    ],
)
def test_each_wave_has_a_stand_in_as_far_as_there_are_any(controller, expected):
    plans = {name: plan("configuration") for name in "acef"}
    plans["b"], plans["d"] = plan("none", False), plan("impossible")
    made = rollout(plans, ["1"], {}, ["lost"], controller)
    assert made["batches"] == expected
    assert made["placeholder_hosts"] == [batch[1] for batch in expected if len(batch) > 1]
    assert made["waves"] == [1, 1, 1, 1]


def test_a_healthy_fleet_has_no_waves():
    made = rollout({"a": plan("none", False)}, ["1"], {})
    assert (made["batches"], made["placeholder_hosts"]) == ([], [])


def test_a_named_builder_builds_and_nothing_is_built_for_nothing():
    assert who_builds(rollout({"a": plan("rebuild")}, ["1"], {"a": "builder"})) == {"rebuild-x86_64": ("builder", True)}
    assert rollout({"a": plan("configuration")}, ["1"], {"a": "builder"})["builds"] == []


def test_each_architecture_and_each_release_is_made_once_by_a_builder_of_its_own():
    made = rollout(
        {
            "x1": plan("rebuild"),
            "x2": plan("rebuild"),
            "a1": plan("rebuild", qemu=build(architecture="aarch64")),
            "a2": plan("rebuild", qemu=build(architecture="aarch64")),
            "k1": plan("replace", qemu=build("kata_static")),
        },
        ["1"],
        {"a2": "not-the-first", "k1": "named"},
    )
    assert who_builds(made) == {"rebuild-x86_64": ("x1", True), "rebuild-aarch64": ("a1", True), "kata_static-x86_64": ("named", True)}
    assert "  QEMU is taken out of Kata 3.20.0 once, on named" in made["summary"]


def test_what_only_an_alternative_needs_is_not_planned_but_has_one_builder_for_all():
    late = [{"qemu": build()}]
    made = rollout({"a": plan("reuse", alternatives=late), "b": plan("reuse", alternatives=late)}, ["1"], {})
    assert who_builds(made) == {"rebuild-x86_64": ("a", False)}
    assert not any("built" in line for line in made["summary"])
    made = rollout({"a": plan("reuse", alternatives=late), "b": plan("rebuild")}, ["1"], {})
    assert who_builds(made) == {"rebuild-x86_64": ("b", True)}


def test_each_host_knows_its_wave_and_the_fleet_has_the_lost_ones_too():
    made = rollout({name: plan("rebuild") for name in "abcde"} | {"f": plan("none", False)}, ["1", "50%"], {}, ["x", "y"])
    assert made["wave_of"] == {"a": 1, "b": 2, "c": 2, "d": 3, "e": 3}
    assert (made["fleet"], made["lost"]) == ([*"abcdef", "x", "y"], ["x", "y"])
    assert made["summary"][-1] == "  2 could not be looked at, and get nothing: x, y"


def test_a_long_list_of_lost_hosts_is_cut():
    assert rollout({}, ["1"], {}, ["h%d" % n for n in range(12)])["summary"][-1].endswith("h8, h9 and 2 more")
