#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: journal_host
short_description: Private half of journal on the host
version_added: 0.2.0
description:
  - The action plugin of M(kataops.aio.journal) runs it. Do not use it in tasks; its options and results may change at any time.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  request:
    description:
      - What to do.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Use the public module
  kataops.aio.journal:
    state: rolled_back
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._journal import roll_back


def main() -> None:
    module = AnsibleModule(argument_spec={"request": {"type": "dict", "required": True}}, supports_check_mode=True)
    also_trust(module.params["request"]["trusted_owners"])
    try:
        done = roll_back(Journal(), module.params["request"], module.check_mode)
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    module.exit_json(**done)


if __name__ == "__main__":
    main()
