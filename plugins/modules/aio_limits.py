#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: aio_limits
short_description: Raise the kernel's limits for block AIO, now and for the next boot
version_added: 0.2.0
description:
  - Raises C(fs.aio-max-nr) live and in C(/etc/sysctl.d/60-kataops-aio.conf), in one transaction that the journal records, so that M(kataops.aio.journal)
    can undo it. On request it also allows io_uring for everyone.
  - It never lowers a limit. A higher live value stays, and the file never says less than another sysctl file does.
  - If a sysctl file that is applied later at boot would undo the limit, it fails with the name of that file before it changes anything.
  - Limits are the kernel's. In a container they are those of its host.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  aio_max_nr:
    description:
      - The least value of C(fs.aio-max-nr), in events. QEMU takes 1024 for each AioContext with C(aio=native).
    type: int
    default: 1048576
  io_uring:
    description:
      - V(keep) leaves C(kernel.io_uring_disabled) as it is.
      - V(enable) sets it to 0, now and for the next boot, so that everyone on the host may use io_uring. This is a decision about security, because
        distributions that switch it off do so on purpose.
    type: str
    choices: [keep, enable]
    default: keep
seealso:
  - module: kataops.aio.journal
  - module: kataops.aio.libaio_info
"""

EXAMPLES = r"""
- name: Make room for about 1000 sandboxes with native AIO
  kataops.aio.aio_limits:
    aio_max_nr: 1048576
  become: true
"""

RETURN = r"""
transaction:
  description: The number of the transaction in the journal; V(none) if nothing was changed.
  type: int
  returned: success
aio_max_nr:
  description: The live C(fs.aio-max-nr) after the task, in events; in check mode what it is now.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._aio_limits import AIO_MAX_NR, raise_limits, requests
from ansible_collections.kataops.aio.plugins.module_utils._change import transaction, values
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "aio_max_nr": {"type": "int", "default": 1048576},
            "io_uring": {"type": "str", "choices": ["keep", "enable"], "default": "keep"},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    also_trust(module.params["trusted_owners"])
    about = {"tool": "aio_limits", "kind": "change"}
    try:
        wanted = requests(module.params["aio_max_nr"], module.params["io_uring"] == "enable")
        done = raise_limits(Journal(), wanted, about, module.check_mode)
        live = values.look(AIO_MAX_NR)[0]["value"]
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    except OSError as exc:
        module.fail_json(**transaction.os_failure(exc, "raising the limits").as_failure())
    result = {"changed": done["changed"], "transaction": done["transaction"], "aio_max_nr": int(live)}
    if done["cautions"]:
        result["warnings"] = done["cautions"]
    if module._diff:
        result["diff"] = done["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
