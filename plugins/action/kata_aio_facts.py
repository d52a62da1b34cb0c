# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of kata_aio_facts: reads the TOML that the host sent, judges, plans."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._facts import judged_facts, second_look

MODULE = "kataops.aio.kata_aio_facts"


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        try:
            observations = self._observations(result)
            if observations is None:
                return result
            more = second_look(observations)
            if more:
                for option, paths in more.items():
                    args[option] = list(args.get(option) or []) + paths
                result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
                observations = self._observations(result)
                if observations is None:
                    return result
            observations["host"]["name"] = (task_vars or {}).get("inventory_hostname")
            result["ansible_facts"]["kata_aio"] = judged_facts(observations, result.pop("policy"))
        except AioError as exc:
            return dict(exc.as_failure(), failed=True)
        return result

    @staticmethod
    def _observations(result: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """The module's observations, or None where it failed or could not be run."""
        if result.get("failed") or result.get("unreachable"):
            return None
        return result["ansible_facts"]["kata_aio"]
