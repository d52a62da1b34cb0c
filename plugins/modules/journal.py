#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: journal
short_description: Roll back what this collection changed on a host
version_added: 0.2.0
description:
  - Every change that this collection makes to a host's files and kernel settings is recorded in one journal, C(/var/lib/kataops-aio), before it is
    made, with what was there before. This module reads the journal backwards and undoes what still stands.
  - A file comes back byte for byte, with its mode, owner, extended attributes and modification time. A file that another program changed since only
    loses our part, and keeps what that program wrote. A file that was replaced or removed since holds nothing of ours, and is left as it is.
  - What cannot be undone blocks only itself - everything else is undone, then the task fails and names what is left, with a remedy.
  - It needs no readable Kata configuration.
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
  state:
    description:
      - V(rolled_back) is the only state. It is named so that a task says what it does.
    type: str
    choices: [rolled_back]
    required: true
  transaction:
    description:
      - Revert this one transaction, as a module's result named it, and leave those before it in place. An object that another program changed since
        makes the task fail before anything is changed.
    type: int
  tools:
    description:
      - Undo only changes made by these modules of the collection. Without it, those of all.
    type: list
    elements: str
    choices: [kata_config, aio_limits]
    default: []
  runtimes:
    description:
      - Undo only changes made for these Kata runtimes, by handler or base file. Without it, those for all.
    type: list
    elements: str
    default: []
  force:
    description:
      - Put back what was there before also where another program changed the object since. What that program wrote is kept in the journal.
    type: bool
    default: false
seealso:
  - module: kataops.aio.journal_info
  - module: kataops.aio.kata_config
  - module: kataops.aio.aio_limits
"""

EXAMPLES = r"""
- name: Undo everything that kataops.aio changed on this host
  kataops.aio.journal:
    state: rolled_back
  become: true

- name: Undo only the changes of Kata's configuration
  kataops.aio.journal:
    state: rolled_back
    tools: [kata_config]
  become: true

- name: Revert the transaction that a failed check followed
  kataops.aio.journal:
    state: rolled_back
    transaction: "{{ changed_config.transaction }}"
  become: true
"""

RETURN = r"""
objects:
  description: What was undone, in the order in which it was, the newest change first.
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
      description: V(ours) if it was as we left it, V(changed) if another program had changed it since.
      type: str
      returned: always
left:
  description: What could not be undone. Not empty only if the task fails.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: As in RV(objects[].kind).
      type: str
      returned: always
    name:
      description: As in RV(objects[].name).
      type: str
      returned: always
    reason:
      description: Why it was left.
      type: str
      returned: always
    remedy:
      description: What to do.
      type: str
      returned: always
    difference:
      description: A unified diff from what we wrote to what is there now, as lines.
      type: list
      elements: str
      returned: always
notes:
  description: What is worth knowing of objects on which nothing had to be undone, and of what other programs wrote.
  type: list
  elements: str
  returned: always
transaction:
  description: The number of the rollback's own transaction; V(none) if nothing was changed.
  type: int
  returned: always
recovered:
  description: Interrupted transactions that were settled first.
  type: list
  elements: dict
  returned: always
"""

# This is a virtual module: the action plugin of the same name does its work.
ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["rolled_back"], "required": True},
    "transaction": {"type": "int"},
    "tools": {"type": "list", "elements": "str", "choices": ["kata_config", "aio_limits"], "default": []},
    "runtimes": {"type": "list", "elements": "str", "default": []},
    "force": {"type": "bool", "default": False},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
}
