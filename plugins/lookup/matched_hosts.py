# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test wants the documentation before the imports.
# ruff: noqa: E402
from __future__ import annotations

DOCUMENTATION = r"""
name: matched_hosts
short_description: A host pattern that is known to match
version_added: 0.2.0
description:
  - Returns the pattern for a play's C(hosts), and fails where no host of the inventory matches it within the run's C(--limit).
  - Ansible itself skips such a play and ends with exit status 0. A run that looked at nothing must not look like a healthy fleet.
  - It asks the inventory only; no host is contacted. Hosts that an earlier play of the same run lost still match.
author:
  - The kataops founders (@kataops)
options:
  _terms:
    description: One host pattern, as C(hosts) of a play takes it.
    type: list
    elements: str
    required: true
seealso:
  - plugin: ansible.builtin.inventory_hostnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: A play that fails where it has no host
  hosts: "{{ lookup('kataops.aio.matched_hosts', kata_aio_hosts | default('all')) }}"
"""

RETURN = r"""
_raw:
  description: The pattern.
  type: list
  elements: str
"""

from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        if not any(context.CLIARGS.get(name) for name in ("syntax", "listtasks", "listtags")):
            variables = variables or {}
            for pattern in terms:
                try:
                    _demand_match(pattern, variables.get("ansible_limit"), variables.get("groups") or {}, self._loader)
                except AioError as error:
                    raise AnsibleError(str(error)) from error
        return terms


def _demand_match(pattern, limit, groups, loader):
    """:raises AioError: where no host of the groups ({name: hosts}) matches the pattern within the limit (as of --limit, or None)."""
    inventory = InventoryManager(loader, parse=False)
    for group, hosts in groups.items():
        name = inventory.add_group(group)
        for host in hosts:
            inventory.add_host(host, group=name)
    inventory.clear_pattern_cache()
    if not any(hosts for hosts in groups.values()) and not _names_localhost(pattern):
        raise AioError(
            "no host was looked at: the inventory is missing or has no hosts",
            where="hosts: %s" % _text(pattern),
            expected="an inventory with the Kata hosts",
            remedy="name it with -i INVENTORY (a file that exists; see Ansible's warnings above)",
        )
    if not inventory.get_hosts(pattern):
        raise AioError(
            "no host was looked at: the inventory has hosts, but none matches this pattern",
            where="hosts: %s" % _text(pattern),
            expected="a host or group of the inventory in kata_aio_hosts",
            remedy="correct kata_aio_hosts; the inventory's groups are: %s" % _some(sorted(set(groups) - {"all", "ungrouped"})),
        )
    if limit:
        inventory.subset(limit)
        if not inventory.get_hosts(pattern):
            raise AioError(
                "no host was looked at: hosts match this pattern, but none of them is within --limit %s" % limit,
                where="hosts: %s" % _text(pattern),
                expected="a limit that names at least one of them",
                remedy="correct --limit or kata_aio_hosts",
            )


def _names_localhost(pattern):
    return any(name in ("localhost", "127.0.0.1", "::1") for name in split_host_pattern(pattern))


def _text(pattern):
    return pattern if isinstance(pattern, str) else ",".join(str(part) for part in pattern)


def _some(names, most=10):
    return ", ".join(names[:most]) + (" and %d more" % (len(names) - most) if len(names) > most else "") if names else "none"
