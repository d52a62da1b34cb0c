#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: journal_info
short_description: What this collection changed on a host that still stands
version_added: 0.2.0
description:
  - Reads the journal in C(/var/lib/kataops-aio) and compares it with the host. It changes nothing and takes no lock.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options: {}
seealso:
  - module: kataops.aio.journal
"""

EXAMPLES = r"""
- name: See what kataops.aio changed on this host
  kataops.aio.journal_info:
  become: true
  register: changed_by_us

- name: List the files
  ansible.builtin.debug:
    msg: "{{ item.name }} since {{ item.since }} ({{ item.case }})"
  loop: "{{ changed_by_us.objects }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
objects:
  description: Each object on which a change of this collection stands, the newest change first.
  type: list
  elements: dict
  returned: success
  contains:
    kind:
      description: V(file), or V(value) for a kernel setting.
      type: str
      returned: always
    name:
      description: The path of a file, or the name of a kernel setting such as V(fs.aio-max-nr).
      type: str
      returned: always
    case:
      description:
        - V(ours) if it is as we left it; V(changed) if another program changed it since, and our part may still be in it; V(gone), V(moved) or
          V(undone) if nothing of ours is there any more.
      type: str
      returned: always
    transaction:
      description: The number of the transaction.
      type: int
      returned: always
    since:
      description: When it was changed, UTC, as ISO 8601; V(none) for a record of version 0.1 without a time.
      type: str
      returned: always
      sample: "2026-11-27T17:30:00Z"
    tool:
      description: The module that changed it.
      type: str
      returned: always
      sample: kata_config
    collection_version:
      description: The version of the collection that changed it.
      type: str
      returned: always
    runtimes:
      description: The Kata runtimes that it was changed for, by base file.
      type: list
      elements: str
      returned: always
pending:
  description: Transactions that an interrupted run left unfinished; the next run that changes something, or a rollback, settles them.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._journal import standing


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = standing(Journal())
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
