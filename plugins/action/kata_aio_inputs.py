# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the kata_aio_* variables of all hosts of the play, without contacting one."""

from __future__ import annotations

import datetime
import importlib.util
import os
import sys
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import PREFIX, problems

#: Variables that name files on the controller. A rollout would miss them only when it has begun.
FILES = ("kata_aio_artifact", "kata_aio_before_wave", "kata_aio_before_host", "kata_aio_after_host", "kata_aio_after_wave")

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
        if variables.get("__kata_aio_command") == "remediate":
            for problem, hosts in _missing_files(hostvars, variables["ansible_play_hosts_all"]).items():
                where.setdefault(problem, []).extend(hosts)
        everyone = variables["ansible_play_hosts_all"]
        needed = libraries(variables.get("__kata_aio_command"), any(hostvars.raw_get(host).get("kata_aio_query") for host in everyone))
        for library in needed:
            if importlib.util.find_spec(library) is None:
                problem = "the controller's Python (%s) lacks the library %s; expected what the collection's requirements.txt lists: %s -m pip install %s"
                where.setdefault(problem % (sys.executable, library, sys.executable, library), []).extend(everyone)
        if not where:
            return {"changed": False, "problems": [], "started_at": started_at}
        lines = ["%s (%s)" % (problem, _named(hosts, len(variables["ansible_play_hosts_all"]))) for problem, hosts in where.items()]
        return {
            "failed": True,
            "changed": False,
            "problems": sorted(where),
            "started_at": started_at,
            "msg": "The input check found %d mistake(s); no host was touched:\n%s" % (len(lines), "\n".join("- " + line for line in lines)),
        }


def libraries(command: str | None, query: bool) -> list[str]:
    """The Python libraries that the controller needs for a playbook. A host would be told only in the middle of a rollout.

    :arg query: whether a report is queried.
    """
    needed = [] if sys.version_info >= (3, 11) else ["tomli"]
    return needed + (["tomlkit"] if command == "remediate" else []) + (["jmespath"] if query else [])


def _missing_files(hostvars: t.Any, hosts: list[str]) -> dict[str, list[str]]:
    """The files that the variables name and that are not there, with the hosts whose variables name them.

    Hosts that share a value share its answer, so that a fleet costs one template for each value: that of the first of them. A relative path is not judged,
    since what it is relative to depends on who reads it.
    """
    hosts_of: dict[tuple[str, str], list[str]] = {}
    for host in hosts:
        raw = hostvars.raw_get(host)
        for name in FILES:
            if raw.get(name):
                hosts_of.setdefault((name, repr(raw[name])), []).append(host)
    missing: dict[str, list[str]] = {}
    for (name, _raw), sharing in hosts_of.items():
        value = hostvars[sharing[0]].get(name)
        for path in value if isinstance(value, (list, tuple)) else [value]:
            absolute = os.path.expanduser(str(path))
            if os.path.isabs(absolute) and not os.path.isfile(absolute):
                missing.setdefault("%s names %s; expected a file on the controller, and there is none" % (name, path), []).extend(sharing)
    return missing


def _named(hosts: list[str], total: int) -> str:
    if len(hosts) == total:
        return "all hosts"
    more = len(hosts) - NAMED_HOSTS
    return ", ".join(hosts[:NAMED_HOSTS]) + (" and %d more" % more if more > 0 else "")
