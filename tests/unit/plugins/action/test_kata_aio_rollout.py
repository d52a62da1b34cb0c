# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who makes a QEMU: the builder of each host, else that of the play, else the first host that needs it."""

from __future__ import annotations

from unittest import mock

import pytest
from ansible_collections.kataops.aio.plugins.action.kata_aio_rollout import ActionModule


class HostVars(dict):
    raw_get = dict.get


def facts(host, architecture):
    qemu = {"source": "build", "kind": "rebuild", "build": "rebuild-" + architecture}
    plan = {"needed": True, "strategy": "rebuild", "reasons": [], "qemu": qemu, "alternatives": []}
    return {"kata_aio": {"host": {"name": host}, "plan": plan}}


@pytest.mark.parametrize(
    "of_hosts, of_the_play, expected",
    [
        ({}, None, {"rebuild-x86_64": "x1", "rebuild-aarch64": "a1"}),
        ({}, "builder", {"rebuild-x86_64": "builder", "rebuild-aarch64": "builder"}),
        ({"x1": "bx", "x2": "bx", "a1": "ba"}, "bx", {"rebuild-x86_64": "bx", "rebuild-aarch64": "ba"}),
        ({"x1": "bx", "x2": "bx"}, "bx", {"rebuild-x86_64": "bx", "rebuild-aarch64": "a1"}),
    ],
)
def test_builders(of_hosts, of_the_play, expected):
    hosts = {"x1": "x86_64", "x2": "x86_64", "a1": "aarch64"}
    hostvars = HostVars({name: {"ansible_facts": facts(name, architecture)} for name, architecture in hosts.items()})
    for name, builder in of_hosts.items():
        hostvars[name]["kata_aio_builder"] = builder
    action = ActionModule(*[mock.MagicMock()] * 6)
    action._task.async_val, action._task.args = 0, {"builder": of_the_play} if of_the_play else {}
    made = action.run(task_vars={"hostvars": hostvars, "ansible_play_hosts": list(hosts), "ansible_play_hosts_all": list(hosts)})
    assert {build["build"]: build["builder"] for build in made["builds"]} == expected


@pytest.mark.parametrize(
    "limit, all_hosts, expected",
    [
        (None, ["x1"], ["localhost"]),
        ("x1", ["x1"], []),
        ("x1,localhost", ["x1"], ["localhost"]),
        ("x1:localhost", ["x1"], ["localhost"]),
        (None, ["x1", "localhost"], []),
    ],
)
def test_the_controller_stands_in_where_ansible_lets_it(limit, all_hosts, expected):
    action = ActionModule(*[mock.MagicMock()] * 6)
    action._task.async_val, action._task.args = 0, {}
    variables = {"hostvars": HostVars({"x1": {"ansible_facts": facts("x1", "x86_64")}, "localhost": {}})}
    variables.update(ansible_play_hosts=["x1"], ansible_play_hosts_all=all_hosts)
    if limit:
        variables["ansible_limit"] = limit
    assert action.run(task_vars=variables)["placeholder_hosts"] == expected
