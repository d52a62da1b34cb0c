#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_config
short_description: Change Kata Containers' QEMU configuration safely
version_added: 0.1.0
description:
  - Ensures keys of C([hypervisor.qemu]) for one, several or all QEMU runtimes of a host (Go runtime and runtime-rs), or removes them again.
  - The keys are written as one drop-in where that is safe, else edited into the base file, in which every other byte stays. It owns only the
    requested keys; nothing else is touched, and running sandboxes keep what they were started with.
  - All files change in one transaction, each by one rename of a file that was prepared outside of C(config.d). A file that another process changed in
    the meantime is not overwritten. The previous content is kept in the journal on the host, so that M(kataops.aio.journal) can bring it back byte for
    byte.
  - Before anything is written, the merged result is computed by the rules of the runtime that reads it. Afterwards it is read from the disk and
    computed again; if it is not what was requested, the transaction is reverted and the task fails.
  - Kata reads its configuration whenever a sandbox is created, so nothing has to be restarted.
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
    details:
      - Shows the effective values before and after, each with the file that it comes from, and the difference of each file.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  state:
    description:
      - With V(present), the keys are in effect.
      - With V(absent), what this module wrote is taken out again; what others changed in the same files since stays.
    type: str
    choices: [present, absent]
    default: present
  engine:
    description:
      - The AIO engine of block devices. Which keys that takes depends on the runtime and release, and is known to the module.
      - It fails for a release that cannot give the engine, and names the best one that it can.
      - At least one of O(engine), O(settings), O(qemu_path) and O(per_runtime) is needed with O(state=present).
    type: str
    choices: [native, io_uring, threads]
  settings:
    description:
      - Further keys of C([hypervisor.qemu]) with their values. They go before what O(engine) and O(qemu_path) give.
      - The Go runtime refuses a drop-in with a key that its release does not have; such a key is therefore edited into the base file, where it is
        ignored.
    type: dict
  qemu_path:
    description: The QEMU binary that the runtimes are to start (the key C(path)).
    type: path
  runtimes:
    description: Handlers (V(kata-qemu)) or configuration files of the runtimes that are meant. Every QEMU runtime of the host where it is empty.
    type: list
    elements: str
    default: []
  per_runtime:
    description:
      - Different settings for different runtimes, in one transaction.
      - Mutually exclusive with O(engine), O(settings), O(qemu_path) and O(runtimes).
    type: list
    elements: dict
    suboptions:
      runtimes:
        description: As O(runtimes), but at least one is needed.
        type: list
        elements: str
        required: true
      engine:
        description: As O(engine).
        type: str
        choices: [native, io_uring, threads]
      settings:
        description: As O(settings).
        type: dict
      qemu_path:
        description: As O(qemu_path).
        type: path
      method:
        description: As O(method), which is the default.
        type: str
        choices: [auto, drop_in, base_file]
      requested_engine:
        description:
          - The engine that was wanted, where O(per_runtime[].engine) is only the best one that works. It is noted on the host, and
            M(kataops.aio.kata_aio_facts) judges the runtime V(degraded) as long as this change stands.
        type: str
        choices: [native, io_uring, threads]
  method:
    description:
      - How the keys are written. V(auto) is a drop-in where that is safe, else the base file. Keys that this module has written into a base file stay
        there until V(drop_in) is asked for.
      - V(drop_in) fails where a drop-in is unsafe, for example in a C(config.d) that is shared with the configuration of another hypervisor.
    type: str
    choices: [auto, drop_in, base_file]
    default: auto
  drop_in_name:
    description:
      - The name of the drop-in. Drop-ins are read in the order of the bytes of their names; kata-deploy owns the names V(10-*), V(20-*), V(30-*)
        and V(50-*).
    type: str
    default: 60-kataops-aio.toml
  force:
    description:
      - With O(state=absent), also removes a drop-in of our name that we did not write. Its content is kept in the journal.
    type: bool
    default: false
  verify_qemu:
    description:
      - Ask the QEMU that a changed runtime is to use, before anything is written, whether it runs, and whether it has O(engine). Where it does not, the task
        fails and nothing has changed.
      - V(false) writes all the same, for a QEMU that comes later, or was proved already.
    type: bool
    default: true
    version_added: 0.2.0
  state_dir:
    description: The folder of the journal.
    type: path
    default: /var/lib/kataops-aio
  containerd_configs:
    description: Further containerd or CRI-O configuration files to read, for installations in unusual places.
    type: list
    elements: path
    default: []
  host_request:
    description: What the controller half of this module asks the host half. It is refused in a task.
    type: dict
seealso:
  - module: kataops.aio.journal
  - module: kataops.aio.kata_aio_facts
"""

EXAMPLES = r"""
- name: Native AIO for every QEMU runtime of the host
  kataops.aio.kata_config:
    engine: native

- name: Native AIO by another QEMU, for one handler
  kataops.aio.kata_config:
    engine: native
    qemu_path: /usr/bin/qemu-system-x86_64
    runtimes: [kata-qemu]

- name: What works everywhere
  kataops.aio.kata_config:
    engine: threads

- name: Two runtimes, each with what it can do, both or none
  kataops.aio.kata_config:
    per_runtime:
      - runtimes: [kata-qemu]
        engine: native
      - runtimes: [kata-qemu-runtime-rs]
        engine: io_uring

- name: Take our keys out again
  kataops.aio.kata_config:
    state: absent

- name: Bring every file back as it was before
  kataops.aio.journal:
    state: rolled_back
    tools: [kata_config]
"""

RETURN = r"""
runtimes:
  description: The runtimes that were meant, each with what it reads.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The real path of the runtime's base file.
      type: str
    handlers:
      description: The handlers of the CRI that lead to it.
      type: list
      elements: str
    method:
      description: How the keys are carried, V(drop_in) or V(base_file); V(none) where the module owns nothing there.
      type: str
    path:
      description: The file that carries the keys, or would; null where there is none.
      type: str
    settings:
      description: The wanted keys with their values.
      type: dict
    before:
      description: The effective values of these keys before, defaults included.
      type: dict
    after:
      description: The effective values after; in check mode as they would be.
      type: dict
    changed:
      description: Whether a file of this runtime was changed.
      type: bool
files:
  description: The files that were changed (in check mode, would be).
  returned: success
  type: list
  elements: str
notes:
  description: What the user should know of the choices that were made.
  returned: success
  type: list
  elements: str
transaction:
  description: The number of the transaction in the journal; null if nothing was written.
  returned: success
  type: int
recovered:
  description: Transactions that an interrupted run had left unfinished, and that this run settled first.
  returned: success
  type: list
  elements: dict
  contains:
    seq:
      description: The number of the transaction in the journal.
      type: int
    outcome:
      description: V(completed), V(reverted), V(kept) (another program wrote to a changed file, the others were reverted) or V(unsettled).
      type: str
    names:
      description: Its files.
      type: list
      elements: str
    reason:
      description: Why it could not be settled; null otherwise.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._kata_config import answer

ENGINES = ["native", "io_uring", "threads"]
METHODS = ["auto", "drop_in", "base_file"]
ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "engine": {"type": "str", "choices": ENGINES},
    "settings": {"type": "dict"},
    "qemu_path": {"type": "path"},
    "runtimes": {"type": "list", "elements": "str", "default": []},
    "per_runtime": {
        "type": "list",
        "elements": "dict",
        "options": {
            "runtimes": {"type": "list", "elements": "str", "required": True},
            "engine": {"type": "str", "choices": ENGINES},
            "settings": {"type": "dict"},
            "qemu_path": {"type": "path"},
            "method": {"type": "str", "choices": METHODS},
            "requested_engine": {"type": "str", "choices": ENGINES},
        },
    },
    "method": {"type": "str", "choices": METHODS, "default": "auto"},
    "drop_in_name": {"type": "str", "default": "60-kataops-aio.toml"},
    "force": {"type": "bool", "default": False},
    "verify_qemu": {"type": "bool", "default": True},
    "state_dir": {"type": "path", "default": "/var/lib/kataops-aio"},
    "containerd_configs": {"type": "list", "elements": "path", "default": []},
    "host_request": {"type": "dict"},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    also_trust(module.params["trusted_owners"])
    try:
        module.exit_json(**answer(module.params["host_request"], module.check_mode))
    except AioError as exc:
        module.fail_json(**exc.as_failure())


if __name__ == "__main__":
    main()
