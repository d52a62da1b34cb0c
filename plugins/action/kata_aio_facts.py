# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of kata_aio_facts: reads the TOML that the host sent, judges, plans."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.facts import judged_facts, second_look
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover

MODULE = "kataops.aio.kata_aio_facts"

#: The option that each of the playbooks' variables sets where the task itself does not. They are read here because as templates of the task every worker
#: process would compile each of them again, for each host: a third of what a healthy host costs the controller.
VARIABLES = {
    "engine": "kata_aio_engine",
    "storage_path": "kata_aio_storage_path",
    "headroom": "kata_aio_headroom",
    "aio_max_nr": "kata_aio_max_nr",
    "strategies": "kata_aio_strategies",
    "allow_fallback": "kata_aio_allow_fallback",
    "artifact": "kata_aio_artifact",
    "artifact_sha256": "kata_aio_artifact_sha256",
    "package": "kata_aio_package",
    "method": "kata_aio_method",
    "exclude": "kata_aio_exclude",
    "containerd_configs": "kata_aio_containerd_configs",
    "timeout": "kata_aio_timeout",
    "trusted_owners": "kata_aio_trusted_owners",
}


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        try:
            return self._look(task_vars)
        except AnsibleConnectionFailure as exc:
            # Ansible would drop the host, and its words with it; the playbooks keep both for the report, which marks the host as unreachable in the end.
            if not (task_vars or {}).get("__kata_aio_keep_unreachable"):
                raise
            return {"failed": True, "changed": False, "msg": str(exc), "kata_aio_unreachable": True}

    def _look(self, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        variables = task_vars or {}
        args = dict(self._task.args)
        for option, variable in VARIABLES.items():
            if option not in args and variable in variables:
                args[option] = self._templar.template(variables[variable])
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        try:
            observations = self._observations(result)
            if observations is None:
                return result
            runtimes, more = second_look(observations)
            if more:
                for option, paths in more.items():
                    args[option] = list(args.get(option) or []) + paths
                result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
                observations = self._observations(result)
                if observations is None:
                    return result
                # Whatever is missing now cannot be had
                runtimes = discover(observations["kata"])
            observations["host"]["name"] = variables.get("inventory_hostname")
            result["ansible_facts"]["kata_aio"] = judged_facts(observations, runtimes, result.pop("policy"))
        except AioError as exc:
            return dict(exc.as_failure(), failed=True)
        return result

    @staticmethod
    def _observations(result: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """The module's observations, or None where it failed or could not be run."""
        if result.get("failed") or result.get("unreachable"):
            return None
        return result["ansible_facts"]["kata_aio"]
