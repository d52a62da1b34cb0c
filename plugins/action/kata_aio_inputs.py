# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the kata_aio_* variables of all hosts of the play, without contacting one."""

from __future__ import annotations

import datetime
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.plugin_utils._inputs import PREFIX, problems

#: So many host names stand in a message; the rest is a number.
NAMED_HOSTS = 5


class ActionModule(ActionBase):
    _requires_connection = False
    _VALID_ARGS = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        variables = task_vars or {}
        hostvars = variables["hostvars"]
        where: dict[str, list[str]] = {}
        for host in variables["ansible_play_hosts_all"]:
            raw = hostvars.raw_get(host)
            for problem in problems({name: raw[name] for name in raw if name.startswith(PREFIX)}):
                where.setdefault(problem, []).append(host)
        if not where:
            return {"changed": False, "problems": [], "started_at": started_at}
        lines = ["%s (%s)" % (problem, _named(hosts, len(variables["ansible_play_hosts_all"]))) for problem, hosts in where.items()]
        return {
            "failed": True,
            "changed": False,
            "problems": sorted(where),
            "started_at": started_at,
            "msg": "The variables have %d mistake(s); no host was touched:\n%s" % (len(lines), "\n".join("- " + line for line in lines)),
        }


def _named(hosts: list[str], total: int) -> str:
    if len(hosts) == total:
        return "all hosts"
    more = len(hosts) - NAMED_HOSTS
    return ", ".join(hosts[:NAMED_HOSTS]) + (" and %d more" % more if more > 0 else "")
