# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout of a fleet, from the plans of its hosts."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.waves import CONTROLLER, rollout

DEFAULT_WAVES = ["1", "10%", "50%", "100%"]


class ActionModule(ActionBase):
    _requires_connection = False
    _VALID_ARGS = frozenset(("waves", "builder"))

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        hostvars = variables["hostvars"]
        plans, builders = {}, {}
        for host in variables["ansible_play_hosts"]:
            facts = hostvars.raw_get(host).get("ansible_facts") or {}
            # ansible-core 2.21 can share one facts dictionary between hosts; what was observed on another host is no plan for this one
            if "kata_aio" in facts and facts["kata_aio"]["host"]["name"] == host:
                plans[host] = facts["kata_aio"]["plan"]
                if plans[host]["needed"]:
                    builders[host] = hostvars[host].get("kata_aio_builder")
        waves = [str(size) for size in self._task.args.get("waves") or DEFAULT_WAVES]
        if not any(builders.values()):  # it may also be a variable of the play, which no host knows of
            builders = dict.fromkeys(builders, self._task.args.get("builder"))
        lost = [host for host in variables["ansible_play_hosts_all"] if host not in plans]
        controller = CONTROLLER not in variables["ansible_play_hosts_all"] and _within(CONTROLLER, variables.get("ansible_limit"))
        made = rollout(plans, waves, builders, lost, controller)
        for line in made["summary"]:
            Display().display(line)
        return dict(made, changed=False)


def _within(host: str, limit: str | None) -> bool:
    """Whether the run may have this host in a play; a limit has to name it."""
    return limit is None or host in limit.replace(":", ",").split(",")
