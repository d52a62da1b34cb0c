# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops a rollout when its failure budget is spent."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.gate import verdict


class ActionModule(ActionBase):
    _requires_connection = False
    _VALID_ARGS = frozenset(("budget", "hosts"))

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        hostvars = variables["hostvars"]
        hosts = list(self._task.args.get("hosts") or variables["ansible_play_hosts_all"])
        outcomes = {}
        for host in hosts:
            record = hostvars.raw_get(host).get("kata_aio_outcome")
            if record is not None:
                outcomes[host] = record
        try:
            made = verdict(hosts, set(variables["ansible_play_hosts"]), outcomes, self._task.args.get("budget", "0"))
        except AioError as exc:
            return dict(exc.as_failure(), failed=True)
        message = made.pop("message")
        return dict(made, changed=False, failed=not made["passed"], msg=message)
