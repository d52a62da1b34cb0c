# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistake in a variable is named before any host is touched."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import problems


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"kata_aio_engin": "native"}, "kata_aio_engin is not a variable of kataops.aio; did you mean kata_aio_engine?"),
        ({"kata_aio_zzzzzz": 1}, "docs/variables.md"),
        ({"kata_aio_engine": "libaio"}, "kata_aio_engine has 'libaio'; expected auto, native, io_uring, threads"),
        ({"kata_aio_max_nr": "many"}, "kata_aio_max_nr is 'many'; expected a whole number"),
        ({"kata_aio_max_nr": True}, "expected a whole number"),
        ({"kata_aio_allow_fallback": "perhaps"}, "expected true or false"),
        ({"kata_aio_roads": ["reuse"]}, "kata_aio_roads is now called kata_aio_strategies"),
        ({"kata_aio_fall_back": True}, "kata_aio_fall_back is now called kata_aio_allow_fallback"),
        ({"kata_aio_strategies": "rebuild"}, "kata_aio_strategies is 'rebuild'; expected a list, on the command line -e '{\"kata_aio_strategies\": [...]}'"),
        ({"kata_aio_strategies": 7}, "kata_aio_strategies is 7; expected a list"),
        ({"kata_aio_strategies": ["rebuild", "pray"]}, "kata_aio_strategies has 'pray'"),
        ({"kata_aio_waves": []}, "expected whole numbers or percentages"),
        ({"kata_aio_waves": [1, "half"]}, "expected whole numbers or percentages"),
        ({"kata_aio_failure_budget": "120%"}, "a percentage such as 10%"),
        ({"kata_aio_artifact": "https://host.example/qemu.tar.xz"}, "kata_aio_artifact_sha256"),
        ({"kata_aio_strategies": ["replace"]}, "neither kata_aio_artifact nor kata_aio_package"),
        ({"kata_aio_strategies": ["replace"], "kata_aio_package": False}, "neither kata_aio_artifact nor kata_aio_package"),
        ({"kata_aio_engine": "threads", "kata_aio_allow_fallback": True}, "has no meaning"),
    ],
)
def test_mistake(variables, words):
    found = problems(variables)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"other_role_engine": "x", "ansible_user": "root"},
        {"kata_aio_engine": "{{ engine_of_this_group }}"},
        {"kata_aio_waves": [1, "10%", 100], "kata_aio_failure_budget": "5%", "kata_aio_max_nr": "65536", "kata_aio_allow_fallback": "yes"},
        {"kata_aio_artifact": "https://host.example/qemu.tar.xz", "kata_aio_artifact_sha256": "0" * 64, "kata_aio_strategies": ["replace"]},
        {"kata_aio_outcome": {"outcome": "repaired"}, "kata_aio_before": {}},
    ],
)
def test_right(variables):
    assert problems(variables) == []


def test_all_mistakes_are_told_at_once():
    assert len(problems({"kata_aio_engine": "x", "kata_aio_max_nr": "y", "kata_aio_foo": 1})) == 3
